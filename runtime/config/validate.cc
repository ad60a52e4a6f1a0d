#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "runtime/base/error.h"
#include "runtime/config/config.h"
#include "runtime/config/fields.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kShownSizes = 12;

// Sums of bytes over parameters, gradients and optimizer state must fit in 63 bits with room to
// spare, and so must the elements of any one activation, and the samples of a run.
constexpr double kMaxParameters = 0x1p56;
constexpr double kMaxElements = 0x1p58;

// Divisors of `number`, ascending; where there are many, those nearest to `wanted`.
std::string DivisorsNear(int64_t number, int64_t wanted) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d * d <= number; ++d) {
    if (number % d != 0) continue;
    divisors.push_back(d);
    if (d != number / d) divisors.push_back(number / d);
  }
  std::sort(divisors.begin(), divisors.end(), [wanted](int64_t a, int64_t b) {
    return std::pair(std::abs(a - wanted), a) < std::pair(std::abs(b - wanted), b);
  });
  divisors.resize(std::min(divisors.size(), kShownSizes));
  std::sort(divisors.begin(), divisors.end());
  return fmt::format("{}", fmt::join(divisors, ", "));
}

// The multiples of `step` around `value`, which is none.
std::string MultiplesNear(int64_t step, int64_t value) {
  const int64_t below = value / step * step;
  return below == 0 ? fmt::format("{}", step) : fmt::format("{} or {}", below, below + step);
}

std::string DescribeRange(const FieldRule& rule) {
  std::vector<std::string> parts;
  if (rule.has_at_least()) parts.push_back(fmt::format("at least {}", rule.at_least()));
  if (rule.has_above()) parts.push_back(fmt::format("above {}", rule.above()));
  if (rule.has_at_most()) parts.push_back(fmt::format("at most {}", rule.at_most()));
  if (rule.has_below()) parts.push_back(fmt::format("below {}", rule.below()));
  return fmt::format("{}", fmt::join(parts, " and "));
}

bool InRange(double value, const FieldRule& rule) {
  return std::isfinite(value) && (!rule.has_at_least() || value >= rule.at_least()) &&
         (!rule.has_above() || value > rule.above()) &&
         (!rule.has_at_most() || value <= rule.at_most()) &&
         (!rule.has_below() || value < rule.below());
}

// The rules that train_config.proto states for one field.
class FieldCheck {
 public:
  FieldCheck(const LoadedConfig& loaded, const ConfigField& field)
      : loaded_(loaded),
        field_(field),
        where_(loaded.locations.Where(field.path)),
        name_(field.field->name()) {}

  void Run() const {
    const Message& holder = field_.Holder(loaded_.config);
    const Reflection& reflection = *holder.GetReflection();
    const FieldDescriptor* const field = field_.field;
    if (field->is_repeated()) {
      for (int i = 0; i < reflection.FieldSize(holder, field); ++i) {
        CheckText(reflection.GetRepeatedString(holder, field, i));
      }
      return;
    }
    if (!reflection.HasField(holder, field)) {
      if (!field_.rule().required()) return;
      Throw(ErrorKind::kConfig, where_, "is not set, and has no default ({})", loaded_.source);
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        return CheckOnly(reflection.GetBool(holder, field) ? "true" : "false");
      case FieldDescriptor::CPPTYPE_INT32:
        return CheckNumber(reflection.GetInt32(holder, field));
      case FieldDescriptor::CPPTYPE_INT64:
        return CheckNumber(reflection.GetInt64(holder, field));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return CheckNumber(reflection.GetDouble(holder, field));
      default:
        return CheckText(reflection.GetString(holder, field));
    }
  }

 private:
  template <typename T>
  void CheckNumber(T value) const {
    if (!InRange(static_cast<double>(value), field_.rule())) {
      const std::string range = DescribeRange(field_.rule());
      Throw(ErrorKind::kConfig, where_, "{} {} is out of range; it must be {}", name_, value,
            range.empty() ? "finite" : range);
    }
    CheckOnly(fmt::format("{}", value));
  }

  void CheckOnly(const std::string& value) const {
    if (field_.rule().has_only() && value != field_.rule().only()) ThrowPlanned(value);
  }

  void CheckText(const std::string& value) const {
    if (value.find_first_of("\t\n\r") != std::string::npos || FirstBadByte(value) < value.size()) {
      Throw(ErrorKind::kConfig, where_, "{} {} is not one line of UTF-8 text", name_,
            Quoted(value));
    }
    const auto& choices = field_.rule().choice();
    const auto& planned = field_.rule().planned();
    if (choices.empty() || std::count(choices.begin(), choices.end(), value) > 0) return;
    if (std::count(planned.begin(), planned.end(), value) > 0) ThrowPlanned(value);
    const std::vector<std::string> names(choices.begin(), choices.end());
    Throw(ErrorKind::kConfig, where_, "{} is no {}{} (choices: {})", Quoted(value), name_,
          DidYouMean(value, names), fmt::join(names, ", "));
  }

  [[noreturn]] void ThrowPlanned(const std::string& value) const {
    const FieldRule& rule = field_.rule();
    Throw(ErrorKind::kConfig, where_, "{} {} is not available in this build; what works now: {}",
          name_, value,
          rule.has_only() ? rule.only() : fmt::format("{}", fmt::join(rule.choice(), ", ")));
  }

  const LoadedConfig& loaded_;
  const ConfigField& field_;
  std::string where_;
  std::string name_;
};

// The checks of fields together. Runs after FieldCheck: every value is within its own range, so
// that products of two sizes fit in 64 bits.
class JointCheck {
 public:
  explicit JointCheck(const LoadedConfig& loaded)
      : loaded_(loaded),
        model_(loaded.config.model()),
        parallel_(loaded.config.parallel()),
        train_(loaded.config.train()),
        optimizer_(loaded.config.optimizer()) {}

  void Run() const {
    CheckModel();
    CheckTensorParallel();
    CheckPipelineParallel();
    CheckBatch();
    CheckOptimizer();
    CheckData();
    CheckCheckpoint();
    CheckSizes();
  }

  void RunForWorld(int world_size) const {
    if (world_size < 1) {
      Throw(ErrorKind::kConfig, "world size", "{} is no number of ranks; it must be at least 1",
            world_size);
    }
    const int64_t model_parallel = ModelParallelSize(loaded_.config);
    if (world_size % model_parallel != 0) {
      Fail({"parallel.tensor_model_parallel_size", "parallel.pipeline_model_parallel_size"},
           "world size {} is not a multiple of tensor {} × pipeline {} = {} ranks; products that "
           "fit: {}; or start as many ranks as this layout needs, with mpirun -n {}",
           world_size, parallel_.tensor_model_parallel_size(),
           parallel_.pipeline_model_parallel_size(), model_parallel,
           DivisorsNear(world_size, model_parallel), model_parallel);
    }
    const int64_t replicas = world_size / model_parallel;
    const int64_t at_once = train_.micro_batch_size() * replicas;
    const int64_t global = train_.global_batch_size();
    if (global % at_once != 0) {
      Fail({"train.global_batch_size", "train.micro_batch_size"},
           "global_batch_size {} is not a multiple of micro_batch_size {} × data-parallel size {} "
           "= {}; sizes that fit: {}",
           global, train_.micro_batch_size(), replicas, at_once, MultiplesNear(at_once, global));
    }
  }

 private:
  template <typename... Args>
  [[noreturn]] void Fail(std::initializer_list<const char*> paths,
                         fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorKind::kConfig, loaded_.locations.WhereAny(paths), format,
          std::forward<Args>(args)...);
  }

  void CheckModel() const {
    const int64_t heads = model_.num_attention_heads();
    const int64_t groups = NumQueryGroups(loaded_.config);
    if (model_.hidden_size() % heads != 0) {
      Fail({"model.num_attention_heads", "model.hidden_size"},
           "hidden_size {} is not divisible by num_attention_heads {}; heads that fit: {}",
           model_.hidden_size(), heads, DivisorsNear(model_.hidden_size(), heads));
    }
    if (heads % groups != 0) {
      Fail({"model.num_query_groups", "model.num_attention_heads"},
           "num_attention_heads {} is not divisible by num_query_groups {}; groups that fit: {}",
           heads, groups, DivisorsNear(heads, groups));
    }
    const int64_t positions = MaxPositionEmbeddings(loaded_.config);
    if (model_.seq_length() > positions) {
      Fail({"model.max_position_embeddings", "model.seq_length"},
           "seq_length {} is longer than max_position_embeddings {}; it must be at most that",
           model_.seq_length(), positions);
    }
  }

  void CheckTensorParallel() const {
    const int64_t tp = parallel_.tensor_model_parallel_size();
    const int64_t ffn = FfnHiddenSize(loaded_.config);
    const int64_t groups = NumQueryGroups(loaded_.config);
    // seq_length times micro_batch_size: what sequence parallelism shards is the flat list of
    // tokens.
    const int64_t tokens = model_.seq_length() * train_.micro_batch_size();
    // groups divides heads, and so stands for both. One list of sizes that pass every check here.
    int64_t common = std::gcd(groups, ffn);
    if (parallel_.sequence_parallel()) common = std::gcd(common, tokens);
    const auto require = [&](int64_t size, const char* name, const char* path) {
      if (size % tp == 0) return;
      Fail({"parallel.tensor_model_parallel_size", path},
           "{} {} is not divisible by tensor_model_parallel_size {}; sizes that fit: {}", name,
           size, tp, DivisorsNear(common, tp));
    };
    require(model_.num_attention_heads(), "num_attention_heads", "model.num_attention_heads");
    require(groups, "num_query_groups", "model.num_query_groups");
    require(ffn, "ffn_hidden_size", "model.ffn_hidden_size");
    if (parallel_.sequence_parallel()) {
      require(tokens, "sequence_parallel shards seq_length × micro_batch_size, and",
              "parallel.sequence_parallel");
    }
  }

  void CheckPipelineParallel() const {
    const int64_t stages = parallel_.pipeline_model_parallel_size();
    if (model_.num_layers() < stages) {
      Fail({"parallel.pipeline_model_parallel_size", "model.num_layers"},
           "pipeline_model_parallel_size {} leaves stages without a layer, for num_layers is {}; "
           "sizes that fit: 1 to {}",
           stages, model_.num_layers(), model_.num_layers());
    }
  }

  void CheckBatch() const {
    if (train_.global_batch_size() % train_.micro_batch_size() != 0) {
      Fail({"train.global_batch_size", "train.micro_batch_size"},
           "global_batch_size {} is not a multiple of micro_batch_size {}; sizes that fit: {}",
           train_.global_batch_size(), train_.micro_batch_size(),
           MultiplesNear(train_.micro_batch_size(), train_.global_batch_size()));
    }
    if (train_.eval_interval() > 0 && train_.eval_iters() == 0) {
      Fail({"train.eval_iters", "train.eval_interval"},
           "eval_iters is 0 although eval_interval {} asks for evaluations; it must be at least 1, "
           "or eval_interval 0",
           train_.eval_interval());
    }
  }

  void CheckOptimizer() const {
    const int64_t decay = LrDecayIters(loaded_.config);
    const int64_t warmup = optimizer_.lr_warmup_iters();
    if (optimizer_.min_lr() > optimizer_.lr()) {
      Fail({"optimizer.min_lr", "optimizer.lr"},
           "min_lr {} is above lr {}; it must be at most that", optimizer_.min_lr(),
           optimizer_.lr());
    }
    if (warmup > decay) {
      Fail({"optimizer.lr_warmup_iters", "optimizer.lr_decay_iters", "train.train_iters"},
           "lr_warmup_iters {} is longer than {} {}; it must be at most that", warmup,
           optimizer_.has_lr_decay_iters() ? "lr_decay_iters" : "train_iters", decay);
    }
    const bool wsd = optimizer_.lr_decay_style() == "wsd";
    if (wsd && !optimizer_.has_wsd_decay_iters()) {
      Fail({"optimizer.wsd_decay_iters", "optimizer.lr_decay_style"},
           "lr_decay_style wsd needs wsd_decay_iters: 1 to {}", decay - warmup);
    }
    if (!wsd && optimizer_.has_wsd_decay_iters()) {
      Fail({"optimizer.wsd_decay_iters"},
           "only lr_decay_style wsd reads wsd_decay_iters, and it is {}",
           optimizer_.lr_decay_style());
    }
    if (wsd && optimizer_.wsd_decay_iters() > decay - warmup) {
      Fail({"optimizer.wsd_decay_iters", "optimizer.lr_warmup_iters"},
           "wsd_decay_iters {} is longer than the {} iterations after the warm-up; it must be at "
           "most that",
           optimizer_.wsd_decay_iters(), decay - warmup);
    }
    if (optimizer_.has_loss_scale() && train_.precision() != "fp16") {
      Fail({"optimizer.loss_scale", "train.precision"},
           "only precision fp16 scales the loss, and it is {}; leave loss_scale out",
           train_.precision());
    }
    if (optimizer_.min_loss_scale() > optimizer_.initial_loss_scale()) {
      Fail({"optimizer.min_loss_scale", "optimizer.initial_loss_scale"},
           "min_loss_scale {} is above initial_loss_scale {}; it must be at most that",
           optimizer_.min_loss_scale(), optimizer_.initial_loss_scale());
    }
  }

  void CheckData() const {
    const TrainConfig::Data& data = loaded_.config.data();
    if (data.data_path_size() > 1) {
      Fail({"data.data_path"},
           "blending {} datasets is not available in this build; what works now: one data_path",
           data.data_path_size());
    }
    if (!model_.has_vocab_size() && data.tokenizer().empty()) {
      Fail({"model.vocab_size"},
           "is not set, and neither is data.tokenizer, which would tell it ({}); set one of them",
           loaded_.source);
    }
    const std::array<double, 3> shares =
        SplitShares(data.split(), loaded_.locations.Where("data.split"));
    if (train_.eval_interval() > 0 && shares[1] == 0) {
      Fail({"data.split", "train.eval_interval"},
           "split {} has no validation share, which eval_interval {} asks for; one that fits: "
           "969,30,1",
           Quoted(data.split()), train_.eval_interval());
    }
  }

  void CheckCheckpoint() const {
    const TrainConfig::Checkpoint& checkpoint = loaded_.config.checkpoint();
    if (train_.loss_anomaly_policy() == "rewind") CheckRewind(checkpoint);
    const int64_t retain = checkpoint.save_retain_interval();
    if (retain == 0) return;
    if (checkpoint.keep() == 0) {
      Fail({"checkpoint.save_retain_interval", "checkpoint.keep"},
           "save_retain_interval {} has no use while keep 0 keeps all checkpoints; set keep to at "
           "least 1, or leave save_retain_interval out",
           retain);
    }
    const int64_t interval = checkpoint.save_interval();
    if (interval > 0 && retain % interval != 0) {
      Fail({"checkpoint.save_retain_interval", "checkpoint.save_interval"},
           "save_retain_interval {} is not a multiple of save_interval {}; sizes that fit: {}",
           retain, interval, MultiplesNear(interval, retain));
    }
  }

  // A checkpoint to rewind to must have been saved, and not removed since.
  void CheckRewind(const TrainConfig::Checkpoint& checkpoint) const {
    const int64_t interval = checkpoint.save_interval();
    if (interval == 0) {
      Fail({"train.loss_anomaly_policy", "checkpoint.save_interval"},
           "loss_anomaly_policy rewind needs checkpoints to go back to, and save_interval is 0");
    }
    // The oldest that is kept when the newest has just been saved.
    const int64_t needed = (train_.rewind_iters() + interval - 2) / interval + 1;
    if (checkpoint.keep() > 0 && checkpoint.keep() < needed) {
      Fail({"checkpoint.keep", "train.rewind_iters", "checkpoint.save_interval"},
           "keep {} removes what rewind_iters {} goes back to with save_interval {}; keep must be "
           "at least {}, or 0",
           checkpoint.keep(), train_.rewind_iters(), interval, needed);
    }
  }

  // In floating point, which has the range for any product of valid sizes; the bounds need no
  // exactness.
  void CheckSizes() const {
    const auto hidden = static_cast<double>(model_.hidden_size());
    const auto heads = static_cast<double>(model_.num_attention_heads());
    const auto groups = static_cast<double>(NumQueryGroups(loaded_.config));
    const auto ffn = static_cast<double>(FfnHiddenSize(loaded_.config));
    const auto positions = static_cast<double>(MaxPositionEmbeddings(loaded_.config));
    const double vocab =
        model_.has_vocab_size() ? static_cast<double>(PaddedVocabSize(loaded_.config)) : 0;
    const double layer = hidden * (2 * hidden + 2 * hidden / heads * groups + 2 * ffn);
    const double parameters = model_.num_layers() * layer + hidden * (vocab + positions);
    if (parameters > kMaxParameters) {
      Fail({"model.hidden_size", "model.num_layers", "model.vocab_size", "model.ffn_hidden_size"},
           "the model would have {:.2g} parameters; its sizes must keep them below {:.2g}",
           parameters, kMaxParameters);
    }
    const auto seq = static_cast<double>(model_.seq_length());
    const double tokens = seq * static_cast<double>(train_.micro_batch_size());
    const double widest = std::max({4 * hidden, ffn, vocab, heads * seq});
    if (tokens * widest > kMaxElements) {
      Fail({"train.micro_batch_size", "model.seq_length", "model.hidden_size"},
           "one activation would have {:.2g} elements; micro_batch_size, seq_length and the "
           "model's sizes must keep it below {:.2g}",
           tokens * widest, kMaxElements);
    }
    const double samples =
        static_cast<double>(train_.global_batch_size()) * static_cast<double>(train_.train_iters());
    if (samples * (seq + 1) > kMaxElements) {
      Fail({"train.train_iters", "train.global_batch_size", "model.seq_length"},
           "the run would take {:.2g} tokens; train_iters, global_batch_size and seq_length must "
           "keep it below {:.2g}",
           samples * (seq + 1), kMaxElements);
    }
  }

  const LoadedConfig& loaded_;
  const TrainConfig::Model& model_;
  const TrainConfig::Parallel& parallel_;
  const TrainConfig::Train& train_;
  const TrainConfig::Optimizer& optimizer_;
};

}  // namespace

void ValidateConfig(const LoadedConfig& loaded, std::optional<int> world_size) {
  for (const ConfigField& field : ConfigFields()) FieldCheck(loaded, field).Run();
  const JointCheck check(loaded);
  check.Run();
  if (world_size) check.RunForWorld(*world_size);
}

}  // namespace cairn
