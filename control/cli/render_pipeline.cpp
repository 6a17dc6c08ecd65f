// A packet's way, drawn from the dataplane's own list of stages.
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/cli/table.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;
constexpr size_t kLineWidth = 96;

std::string Repeat(std::string_view what, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += what;
  return text;
}

// Boxes in rows:   ┌───────┐  ┌─────────┐
//                  │ parse ├─▶│ find_sa ├─▶
//                  └───────┘  └─────────┘
std::string Boxes(const json& stages, const std::string& to) {
  std::string text;
  std::string top;
  std::string middle;
  std::string bottom;
  const auto flush = [&] {
    for (std::string* line : {&top, &middle, &bottom}) {
      line->erase(line->find_last_not_of(' ') + 1);
      text += *line + '\n';
      line->clear();
    }
  };
  for (size_t i = 0; i < stages.size(); ++i) {
    const std::string name = Plain(stages[i]);
    constexpr size_t kBoxExtra = 6;  // borders, blanks, arrow
    if (Width(middle) + Width(name) + kBoxExtra > kLineWidth) flush();
    const std::string edge = Repeat("─", Width(name) + 2);
    top += "┌" + edge + "┐  ";
    middle += "│ " + name + " ├─▶";
    bottom += "└" + edge + "┘  ";
  }
  middle += " " + to;
  flush();
  return text;
}

std::string Cluster(const char* direction, const json& stages, const char* from, const char* to) {
  std::string text = fmt::format("  subgraph cluster_{0} {{\n    label=\"{0}\";\n", direction);
  const auto node = [direction](const std::string& name) {
    return fmt::format("\"{}/{}\"", direction, name);
  };
  std::string chain = "    " + node(from);
  text += fmt::format("    {} [label=\"{}\", shape=plaintext];\n", node(from), from);
  for (const json& stage : stages) {
    const std::string name = Plain(stage);
    text += fmt::format("    {} [label=\"{}\"];\n", node(name), name);
    chain += " -> " + node(name);
  }
  text += fmt::format("    {} [label=\"{}\", shape=plaintext];\n", node(to), to);
  return text + chain + " -> " + node(to) + ";\n  }\n";
}

}  // namespace

std::string RenderPipeline(const json& pipeline) {
  return "inbound: from the untrusted side\n" + Boxes(At(pipeline, "inbound"), "trusted side") +
         "\noutbound: from the trusted side\n" + Boxes(At(pipeline, "outbound"), "untrusted side") +
         "\nA packet that a stage drops is counted under its verdict: portcullisctl counters\n";
}

std::string RenderPipelineDot(const json& pipeline) {
  return "digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n" +
         Cluster("inbound", At(pipeline, "inbound"), "untrusted", "trusted") +
         Cluster("outbound", At(pipeline, "outbound"), "trusted", "untrusted") + "}\n";
}

}  // namespace portcullis::cli
