#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

// `cairn ckpt tree`: the names, cut at their dots, as a tree. Neighbours that differ only in their
// number ("layers.0", "layers.1") are one branch, "layers.[0-1]".

namespace cairn {
namespace {

struct NaturalOrder {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const { return NaturalLess(a, b); }
};

// A branch as the names say.
struct Branch {
  std::map<std::string, Branch, NaturalOrder> children;
  std::vector<const TensorEntry*> kinds;  // of the tensor that is called exactly so
};

// A branch as it is shown: `count` alike ones. All numbers are of all of them together.
struct Node {
  std::string name;
  uint64_t count = 1;
  uint64_t tensors = 0;
  uint64_t parameters = 0;  // elements of the kind "weight"
  uint64_t bytes = 0;       // of all kinds
  std::vector<const TensorEntry*> kinds;
  std::vector<Node> children;
  std::string signature;  // equal for nodes that differ in their name only
};

std::optional<uint64_t> Number(std::string_view text) {
  uint64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  if (fmt::to_string(number) != text) return std::nullopt;
  return number;
}

void Scale(Node& node, uint64_t count) {
  node.tensors *= count;
  node.parameters *= count;
  node.bytes *= count;
  for (Node& child : node.children) Scale(child, count);
}

// Makes one node of each run of alike nodes with ascending numbers for names.
std::vector<Node> Collapse(std::vector<Node> nodes) {
  std::vector<Node> collapsed;
  for (size_t begin = 0, end = 0; begin < nodes.size(); begin = end) {
    const std::optional<uint64_t> first = Number(nodes[begin].name);
    for (end = begin + 1; first && end < nodes.size(); ++end) {
      if (nodes[end].signature != nodes[begin].signature) break;
      if (Number(nodes[end].name) != *first + (end - begin)) break;
    }
    Node node = std::move(nodes[begin]);
    if (end - begin > 1) {
      node.count = end - begin;
      node.name = fmt::format("[{}-{}]", node.name, nodes[end - 1].name);
      Scale(node, node.count);
    }
    collapsed.push_back(std::move(node));
  }
  return collapsed;
}

// A name that leads to a single one is no fork: "mlp.fc1", not "mlp" with only "fc1" in it.
Node Join(Node node) {
  if (node.children.size() != 1 || !node.kinds.empty()) return node;
  Node only = std::move(node.children.front());
  only.name = node.name + "." + only.name;
  only.count = node.count;
  return only;
}

Node Build(std::string name, const Branch& branch) {
  Node node;
  node.name = std::move(name);
  node.kinds = branch.kinds;
  node.tensors = branch.kinds.size();
  std::string text;
  for (const TensorEntry* tensor : branch.kinds) {
    if (tensor->kind == kWeightKind) node.parameters += CheckedElements(tensor->shape).value_or(0);
    node.bytes += TensorBytes(tensor->dtype, tensor->shape).value_or(0);
    text += fmt::format("{} {} {};", tensor->kind, tensor->dtype, ShapeText(tensor->shape));
  }
  std::vector<Node> children;
  for (const auto& [child_name, child] : branch.children) {
    children.push_back(Build(child_name, child));
    text += fmt::format("{}={};", child_name, children.back().signature);
  }
  node.signature = Sha256Hex(text);
  for (Node& child : Collapse(std::move(children))) {
    node.tensors += child.tensors;
    node.parameters += child.parameters;
    node.bytes += child.bytes;
    node.children.push_back(Join(std::move(child)));
  }
  return node;
}

Node BuildTree(const Manifest& manifest) {
  Branch root;
  for (const TensorEntry& tensor : manifest.tensors) {
    Branch* branch = &root;
    for (size_t begin = 0; begin <= tensor.name.size();) {
      const size_t dot = std::min(tensor.name.find('.', begin), tensor.name.size());
      branch = &branch->children[tensor.name.substr(begin, dot - begin)];
      begin = dot + 1;
    }
    branch->kinds.push_back(&tensor);
  }
  return Build("", root);
}

// Of a tensor: its weight, or the first kind there is.
const TensorEntry& Main(const Node& node) {
  const auto weight = std::ranges::find(node.kinds, kWeightKind, &TensorEntry::kind);
  return weight == node.kinds.end() ? *node.kinds.front() : **weight;
}

// The kinds but the main one, with their dtype where it is another.
std::string OtherKinds(const Node& node) {
  const TensorEntry& main = Main(node);
  std::string text;
  for (const TensorEntry* tensor : node.kinds) {
    if (tensor == &main) continue;
    text += fmt::format("{}+{}", text.empty() ? "" : " ", tensor->kind);
    if (tensor->dtype != main.dtype) text += ":" + tensor->dtype;
  }
  return text;
}

void AddRows(const Node& node, size_t depth, Table& table) {
  const bool is_tensor = !node.kinds.empty();
  table.AddRow({{std::string(2 * depth, ' ') + node.name, is_tensor ? Style::kPlain : Style::kHead},
                is_tensor ? Main(node).dtype : "",
                is_tensor ? ShapeText(Main(node).shape) : "",
                node.count > 1 ? fmt::format("x{}", node.count) : "",
                fmt::to_string(node.parameters),
                HumanBytes(node.bytes),
                is_tensor ? OtherKinds(node) : ""});
  for (const Node& child : node.children) AddRows(child, depth + 1, table);
}

Json NodeJson(const Node& node) {
  Json json = {{"name", node.name},
               {"count", node.count},
               {"tensors", node.tensors},
               {"parameters", node.parameters},
               {"bytes", node.bytes}};
  if (!node.kinds.empty()) {
    json["shape"] = Main(node).shape;
    json["kinds"] = Json::object();
    for (const TensorEntry* tensor : node.kinds) json["kinds"][tensor->kind] = tensor->dtype;
  }
  if (!node.children.empty()) json["children"] = Json::array();
  for (const Node& child : node.children) json["children"].push_back(NodeJson(child));
  return json;
}

void PrintTree(const CkptOptions& options) {
  const CheckpointReader reader(ResolveAndReport(options.target));
  Node root = BuildTree(reader.manifest());
  if (options.as_json) {
    PrintJson(NodeJson(root));
    return;
  }
  root.name = "all";
  Table table({"name", "dtype", "shape", ">", ">parameters", ">bytes", "kinds"});
  AddRows(root, 0, table);
  PrintText(table.Render());
}

}  // namespace

void AddCkptTree(CLI::App& ckpt) {
  const auto [tree, options] = AddCkptSubcommand<CkptOptions>(
      ckpt, "tree", "the tensors as a tree, alike layers as one, with parameter counts");
  tree->footer(
      "Counts and bytes of a line are of all that it stands for: those of its branches add up to "
      "it.\n"
      "Parameters are elements of weights; bytes are of all kinds.");
  tree->callback([o = options] { PrintTree(*o); });
}

}  // namespace cairn
