#include <fmt/format.h>

#include <cstdio>
#include <span>
#include <string>

#include "launcher/commands/arguments.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/checkpoint_diff.h"
#include "runtime/checkpoint/content_id.h"
#include "runtime/checkpoint/digest.h"

// `cairn ckpt id` and `cairn ckpt diff`: do two checkpoints hold the same, and where do they not.

namespace cairn {
namespace {

struct IdOptions : CkptOptions {
  bool weights = false;
  bool as_text = false;
};

void PrintId(const IdOptions& options) {
  CheckpointReader reader(ResolveAndReport(options.target));
  const std::string text =
      ContentText(reader, options.weights ? ContentScope::kWeights : ContentScope::kAll);
  const std::string id = Sha256Hex(text);
  if (options.as_json) {
    PrintJson({{"checkpoint", reader.directory()},
               {"scope", options.weights ? "weights" : "all"},
               {"id", id}});
  } else {
    PrintText(options.as_text ? text : id + "\n");
  }
}

struct DiffOptions : CkptOptions {
  std::string other;
  TensorFilter filter;
  Tolerance tolerance;
};

std::string FieldText(const StateField& field) {
  return std::visit([](auto value) { return fmt::format("{}", value); }, field.value);
}

Json FieldJson(const StateField& field) {
  return std::visit([](auto value) { return ValueJson(value); }, field.value);
}

std::string TensorText(const TensorEntry& tensor) {
  return fmt::format("{} ({}) {} {}", tensor.name, tensor.kind, tensor.dtype,
                     ShapeText(tensor.shape));
}

std::string ValueText(const ElementValue& value) {
  return std::visit([](auto v) { return fmt::format("{}", v); }, value);
}

Json DiffJson(const CheckpointDiff& diff) {
  Json state = Json::array();
  for (const StateDiff& field : diff.state) {
    state.push_back({{"name", field.a.name}, {"a", FieldJson(field.a)}, {"b", FieldJson(field.b)}});
  }
  const auto list = [](const std::vector<const TensorEntry*>& tensors) {
    Json json = Json::array();
    for (const TensorEntry* tensor : tensors) json.push_back(TensorJson(*tensor));
    return json;
  };
  Json unlike = Json::array();
  for (const auto& [a, b] : diff.unlike) {
    unlike.push_back({{"a", TensorJson(*a)}, {"b", TensorJson(*b)}});
  }
  Json tensors = Json::array();
  for (const TensorDiff& tensor : diff.tensors) {
    Json entry = TensorJson(*tensor.tensor);
    entry["differing"] = tensor.differing;
    entry["beyond_tolerance"] = tensor.beyond;
    entry["max_absolute"] = ValueJson(tensor.max_absolute);
    entry["max_relative"] = ValueJson(tensor.max_relative);
    entry["max_ulp"] = ValueJson(tensor.max_ulp);
    if (tensor.beyond > 0) {
      entry["first"] = {{"index", tensor.first}};
      if (IsNumber(tensor.tensor->dtype)) {
        entry["first"]["a"] = ValueJson(tensor.first_a);
        entry["first"]["b"] = ValueJson(tensor.first_b);
      }
    }
    tensors.push_back(std::move(entry));
  }
  return {{"state", std::move(state)},         {"only_in_a", list(diff.only_in_a)},
          {"only_in_b", list(diff.only_in_b)}, {"unlike", std::move(unlike)},
          {"tensors_compared", diff.compared}, {"tensors", std::move(tensors)}};
}

std::string DiffText(const CheckpointDiff& diff) {
  std::string text;
  for (const StateDiff& field : diff.state) {
    text += fmt::format("{}: {} and {}\n", field.a.name, FieldText(field.a), FieldText(field.b));
  }
  for (const TensorEntry* tensor : diff.only_in_a) {
    text += fmt::format("only in the first: {}\n", TensorText(*tensor));
  }
  for (const TensorEntry* tensor : diff.only_in_b) {
    text += fmt::format("only in the second: {}\n", TensorText(*tensor));
  }
  for (const auto& [a, b] : diff.unlike) {
    text +=
        fmt::format("{} is {} {} in the second\n", TensorText(*a), b->dtype, ShapeText(b->shape));
  }
  if (diff.tensors.empty()) return text;
  Table table(
      {"tensor", "kind", ">differ", ">beyond", ">max abs", ">max rel", ">max ulp", "first beyond"});
  for (const TensorDiff& tensor : diff.tensors) {
    std::string first;
    if (tensor.beyond > 0) {
      first = ShapeText(tensor.first);
      if (IsNumber(tensor.tensor->dtype)) {
        first += fmt::format(" {} and {}", ValueText(tensor.first_a), ValueText(tensor.first_b));
      }
    }
    table.AddRow({tensor.tensor->name,
                  tensor.tensor->kind,
                  fmt::to_string(tensor.differing),
                  {fmt::to_string(tensor.beyond), tensor.beyond > 0 ? Style::kBad : Style::kGood},
                  fmt::format("{:.3g}", tensor.max_absolute),
                  fmt::format("{:.3g}", tensor.max_relative),
                  fmt::format("{:.0f}", tensor.max_ulp),
                  first});
  }
  return text + table.Render();
}

// Whether the two are the same within the tolerance.
bool Compare(const DiffOptions& options) {
  CheckpointReader a(ResolveAndReport(options.target));
  CheckpointReader b(ResolveAndReport(options.other));
  const CheckpointDiff diff =
      CompareCheckpoints(a, b, options.tolerance, options.filter.empty(),
                         [&](const TensorEntry& tensor) { return options.filter.Matches(tensor); });
  if (options.as_json) {
    Json json = {{"a", a.directory()}, {"b", b.directory()}, {"equal", !diff.Differs()}};
    json.update(DiffJson(diff));
    PrintJson(json);
    return !diff.Differs();
  }
  PrintText(DiffText(diff));
  const std::string verdict = diff.Differs()         ? "they differ"
                              : diff.tensors.empty() ? "all equal"
                                                     : "equal within the tolerance";
  PrintText(fmt::format("{} tensors compared, {} with differing bits: {}\n", diff.compared,
                        diff.tensors.size(),
                        Styled(verdict, diff.Differs() ? Style::kBad : Style::kGood)));
  return !diff.Differs();
}

}  // namespace

void AddCkptId(CLI::App& ckpt) {
  const auto [id, options] = AddCkptSubcommand<IdOptions>(
      ckpt, "id", "a digest of the content, the same for every layout");
  id->add_flag("--weights", options->weights, "of the weights alone, without training state");
  CLI::Option* const text =
      id->add_flag("--text", options->as_text, "print the text whose SHA-256 the digest is");
  text->excludes(id->get_option("--json"));
  id->callback([o = options] { PrintId(*o); });
}

void AddCkptDiff(CLI::App& ckpt, int& exit_status) {
  const auto [diff, options] =
      AddCkptSubcommand<DiffOptions>(ckpt, "diff", "compare two checkpoints of any layouts");
  Tolerance& tolerance = options->tolerance;
  diff->add_option("other", options->other, "the checkpoint to compare with")
      ->required()
      ->type_name("CHECKPOINT");
  AddTensorFilter(*diff, options->filter);
  diff->add_option("--atol", tolerance.absolute, "let pass |a-b| <= ATOL + RTOL max(|a|,|b|)")
      ->check(AtLeast<double>(0))
      ->type_name("ATOL");
  diff->add_option("--rtol", tolerance.relative, "see --atol")
      ->check(AtLeast<double>(0))
      ->type_name("RTOL");
  diff->add_option("--ulp", tolerance.ulp,
                   "let pass numbers that are ULP steps of their dtype apart")
      ->type_name("ULP");
  diff->footer(
      "Without a tolerance, elements are equal if their bits are. With one, two NaNs pass, a NaN "
      "or\n"
      "an infinity on one side only does not. --glob and --kind leave the training state out.\n"
      "Exit status 1 where something differs beyond the tolerance.");
  diff->callback([o = options, command = diff, &exit_status] {
    for (const char* name : {"--atol", "--rtol", "--ulp"}) {
      if (command->count(name) > 0) o->tolerance.bitwise = false;
    }
    if (!Compare(*o)) exit_status = kExitCheckFailed;
  });
}

}  // namespace cairn
