// audit list | checkpoint | verify. verify reads a file and needs no control: whoever doubts the
// gate's administrators does it on a machine of his own, with a key and an anchor that he kept.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/table.hpp"
#include "control/registry/audit/verify.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

struct AuditArguments {
  uint64_t from = 1;
  uint64_t count = 100;
  std::string anchor;
  std::string key;
  std::string log;
};

std::string RenderRecords(const json& answer) {
  Table table({{"NUMBER", Table::Align::kRight},
               {"TIME"},
               {"WHO"},
               {"ACTION"},
               {"SUBJECT"},
               {"OUTCOME"},
               {"STATUS", Table::Align::kRight}});
  for (const json& record : At(answer, "items")) {
    table.Add({Text(record, "number"), Text(record, "time"), Text(record, "who"),
               Text(record, "action"), Text(record, "subject"), Text(record, "outcome"),
               Text(At(record, "detail"), "status")});
  }
  std::string text = table.empty() ? "no records there\n" : table.Text();
  if (const std::string next = Text(answer, "next"); !next.empty()) {
    text += fmt::format("more: --from {}\n", next);
  }
  return text;
}

// What was found, and what could not be: a chain that nobody signed proves little.
std::string RenderReport(const audit::Report& report, const AuditArguments& arguments) {
  std::string text =
      report.wrong
          ? fmt::format("NOT INTACT: record {}: {}\n", report.wrong->number, report.wrong->text)
          : fmt::format("intact: {}, the last with hash {}\n", Count(report.count, "record"),
                        audit::Hex(report.head));
  if (arguments.key.empty()) {
    text += "signatures were not checked: no --key\n";
  } else if (const uint64_t bare = report.count - report.covered - (report.checkpoints > 0 ? 1 : 0);
             bare > 0) {
    text += fmt::format("no signature covers the last {} yet\n", Count(bare, "record"));
  }
  if (arguments.anchor.empty()) text += "a cut-off end was not looked for: no --anchor\n";
  if (report.incomplete_bytes > 0) {
    text += fmt::format("the last append was cut off after {}; nobody was told that it succeeded\n",
                        Count(report.incomplete_bytes, "byte"));
  }
  return text;
}

Outcome<ExitCode> VerifyLog(Cli& cli, const AuditArguments& arguments) {
  audit::Against against;
  if (!arguments.key.empty()) {
    auto key = audit::PublicKey::Load(arguments.key);
    if (!key) return Fails(ExitCode::kUsage, key.error().Text());
    against.key = std::move(*key);
  }
  if (!arguments.anchor.empty()) {
    auto anchor = audit::LoadCheckpoint(arguments.anchor);
    if (!anchor) return Fails(ExitCode::kUsage, anchor.error().Text());
    against.anchor = std::move(*anchor);
  }
  const auto report = audit::Verify(arguments.log, against);
  if (!report) return Fails(ExitCode::kUsage, report.error().Text());
  if (cli.json()) {
    json out = {{"intact", !report->wrong},
                {"count", report->count},
                {"head", audit::Hex(report->head)},
                {"checkpoints", report->checkpoints},
                {"covered", report->covered},
                {"incomplete_bytes", report->incomplete_bytes},
                {"signatures_checked", against.key.has_value()},
                {"anchor_checked", against.anchor.has_value()}};
    if (report->wrong) {
      out["wrong"] = {{"number", report->wrong->number}, {"text", report->wrong->text}};
    }
    cli.Print(out);
  } else {
    cli.out() << RenderReport(*report, arguments);
  }
  return report->wrong ? ExitCode::kRefused : ExitCode::kOk;
}

}  // namespace

void AddAuditCommands(Cli& cli) {
  const auto arguments = std::make_shared<AuditArguments>();
  const auto list = [&cli, arguments] {
    return cli.Show(fmt::format("/v1/audit?from={}&count={}", arguments->from, arguments->count),
                    RenderRecords);
  };
  CLI::App* group = cli.Group("audit", "Who changed what, and whether that record is intact", list);
  CLI::App* records =
      cli.Command(group, "list", "Records, oldest first; the same as no command", list);
  records->add_option("--from", arguments->from, "Number of the first one; default 1")
      ->type_name("N");
  records->add_option("--count", arguments->count, "At most so many, up to 1000; default 100")
      ->type_name("N");
  cli.Command(group, "checkpoint",
              "A signed checkpoint that covers every record, as JSON: keep it elsewhere", [&cli] {
                return cli.Show("/v1/audit/checkpoint",
                                [](const json& checkpoint) { return checkpoint.dump(2) + "\n"; });
              });
  CLI::App* verify =
      cli.Command(group, "verify", "Is a log what was written? Reads the file LOG, asks no control",
                  [&cli, arguments] { return VerifyLog(cli, *arguments); });
  verify->add_option("LOG", arguments->log, "The audit log, or a copy")->required();
  verify
      ->add_option("--anchor", arguments->anchor,
                   "A checkpoint that was kept elsewhere: finds a cut-off end, and a log that was "
                   "written anew with its own key")
      ->type_name("FILE");
  verify->add_option("--key", arguments->key, "Public key of the checkpoints' signatures, in PEM")
      ->type_name("PUBLIC");
}

}  // namespace portcullis::cli
