// status, counters, events, pipeline.
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Counters {
  std::string by = "verdict";
  bool all = false;
  double watch_seconds = 0;
  uint64_t times = 0;  // 0: for ever
};

Outcome<ExitCode> ShowCounters(Cli& cli, const Counters& arguments, bool watch) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  const std::string target = "/v1/counters?by=" + arguments.by;
  const bool terminal = isatty(STDOUT_FILENO) != 0 && !cli.json();
  json before;
  Clock::time_point before_time;
  for (uint64_t shown = 0;;) {
    const auto report = (*control)->Get(target);
    if (!report) return tl::unexpected(report.error());
    const auto now = Clock::now();
    if (cli.json()) {
      // One line each when watched, so that a program can read them as they come.
      cli.out() << report->dump(watch ? -1 : 2) << '\n';
    } else {
      constexpr const char* kHomeAndClear = "\033[H\033[J";
      if (watch && terminal) cli.out() << kHomeAndClear;
      if (watch && !terminal && shown > 0) cli.out() << '\n';
      const double seconds = std::chrono::duration<double>(now - before_time).count();
      cli.out() << RenderCounters(*report, arguments.all, before.is_null() ? nullptr : &before,
                                  seconds);
    }
    cli.out() << std::flush;
    if (!watch || ++shown == arguments.times || !cli.out()) return ExitCode::kOk;
    before = *report;
    before_time = now;
    std::this_thread::sleep_until(now + std::chrono::duration<double>(arguments.watch_seconds));
  }
}

Outcome<ExitCode> ShowEvents(Cli& cli, bool follow) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  std::string last_id;
  const auto print = [&](const json& event) {
    last_id = Text(event, "id");
    if (cli.json()) {
      cli.out() << event.dump() << '\n' << std::flush;
    } else {
      cli.out() << RenderEvent(event) << std::flush;
    }
    return static_cast<bool>(cli.out());
  };
  // What is kept first; then, from the last of those on, what comes.
  const auto kept = (*control)->Events("/v1/events?follow=false", "", print);
  if (!kept) return tl::unexpected(kept.error());
  if (!follow) return ExitCode::kOk;
  const auto ended = (*control)->Events("/v1/events", last_id, print);
  if (!ended) return tl::unexpected(ended.error());
  if (!cli.out()) return ExitCode::kOk;
  return Fails(ExitCode::kUnreachable, "control ended the stream of events");
}

}  // namespace

void AddObserveCommands(Cli& cli) {
  cli.Command(nullptr, "status", "What stands, what is in force, what is wrong",
              [&cli] { return cli.Show("/v1/status", RenderStatus); });

  const auto counters = std::make_shared<Counters>();
  const auto watch = std::make_shared<CLI::Option*>(nullptr);
  CLI::App* command = cli.Command(
      nullptr, "counters", "What became of the packets",
      [&cli, counters, watch] { return ShowCounters(cli, *counters, (*watch)->count() > 0); });
  command->add_option("--by", counters->by, "verdict, worker, peer or sa; default verdict")
      ->check(CLI::IsMember({"verdict", "worker", "peer", "sa"}).description(""))
      ->type_name("WHAT");
  *watch = command
               ->add_option("--watch", counters->watch_seconds,
                            "Again every so many seconds, with rates; default 1")
               ->expected(0, 1)
               ->default_str("1")
               ->check(CLI::Range(0.05, 3600.0).description(""))
               ->type_name("[SECONDS]");
  command->add_option("--times", counters->times, "End after so many; default never")
      ->needs(*watch)
      ->type_name("N");
  command->add_flag("--all", counters->all, "Also what is zero");

  const auto follow = std::make_shared<bool>(false);
  CLI::App* events = cli.Command(nullptr, "events", "What happened: the events that control keeps",
                                 [&cli, follow] { return ShowEvents(cli, *follow); });
  events->add_flag("--follow", *follow, "Then wait for more");

  const auto dot = std::make_shared<bool>(false);
  CLI::App* pipeline = cli.Command(
      nullptr, "pipeline", "Draw a packet's way, as the dataplane itself lists it",
      [&cli, dot] { return cli.Show("/v1/pipeline", *dot ? RenderPipelineDot : RenderPipeline); });
  pipeline->add_flag("--dot", *dot, "For Graphviz");
}

}  // namespace portcullis::cli
