#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/train_config.pb.h"

namespace cairn {

/// Where presets are looked up.
struct ConfigSources {
  std::string configs_dir;  ///< folder of NAME.textproto; empty: there are no presets
};

/// The folder of the presets: $CAIRN_CONFIG_DIR, else `configs` of the source tree that
/// `executable` (an absolute path) was built in, else `share/cairn/configs` of where it is
/// installed; "" when none is there. Throws kConfig when CAIRN_CONFIG_DIR is set but is no folder.
std::string FindConfigsDir(const std::string& executable);

/// Names of the presets, sorted.
std::vector<std::string> PresetNames(const ConfigSources& sources);

/// A config before it is parsed.
struct ConfigFile {
  std::string name;  ///< for messages: a path, or "<stdin>"
  std::string text;
};

/// Reads what a user calls CONFIG: `-` is standard input, a bare name first a preset and then a
/// file, anything with a '/' a file. At most 1 MiB of UTF-8 text. Throws kConfig.
ConfigFile ReadConfigFile(const std::string& name, const ConfigSources& sources);

/// One field set on the command line.
struct ConfigOverride {
  std::string path;      ///< "parallel.tensor_model_parallel_size"
  std::string value;     ///< not yet parsed
  std::string argument;  ///< as typed, for messages
};

/// Reads `section.field=value`, `field=value`, `--field value`, `--field=value`, and for switches
/// `--field` and `--no-field`; '-' and '_' in names are the same. Throws kUsage with a
/// did-you-mean.
std::vector<ConfigOverride> ParseOverrides(const std::vector<std::string>& arguments);

/// Where each field of a config was set.
class ConfigLocations {
 public:
  /// Notes that `path` was set at `place` ("file:line:column" or "command line: ...").
  void Set(const std::string& path, std::string place, bool on_command_line);

  /// The place where `path` was set, or `path` itself.
  std::string Where(const std::string& path) const;

  /// Where to send the user when `paths` do not fit together: the first that was set on the command
  /// line, else the first that was set at all, else the first.
  std::string WhereAny(std::initializer_list<const char*> paths) const;

 private:
  struct Place {
    std::string text;
    bool on_command_line;
  };
  std::map<std::string, Place> places_;
};

/// A parsed config, and where it came from.
struct LoadedConfig {
  TrainConfig config;
  ConfigLocations locations;
  std::string source;  ///< ConfigFile::name
};

/// Parses `file` and applies `overrides`, the last one of a field winning. The first mistake is
/// thrown as kConfig at "file:line:column" or "command line: ...". Ranges and whatever ties fields
/// together are left to ValidateConfig.
LoadedConfig ParseConfig(const ConfigFile& file, const std::vector<ConfigOverride>& overrides);

/// ReadConfigFile, then ParseConfig.
LoadedConfig LoadConfig(const std::string& name, const std::vector<ConfigOverride>& overrides,
                        const ConfigSources& sources);

/// Checks every value by itself and all of them together, before any memory is taken. The checks
/// that need the number of ranks are made where `world_size` is given. Throws the first mistake as
/// kConfig: where the value was set, what is wrong with it, and what would fit.
void ValidateConfig(const LoadedConfig& loaded, std::optional<int> world_size);

/// Checks that what only a real training run needs, run_dir and data_path, is set (a dry run or a
/// benchmark needs neither). Throws kConfig.
void RequireRunInputs(const LoadedConfig& loaded);

/// The config as text with defaults spelled out, so that a run's record outlives a change of
/// defaults; fields that follow from others stay unset. Equal configs give equal text, and parsing
/// it gives an equal config.
std::string ConfigText(const TrainConfig& config);

/// A digest of ConfigText: ranks that disagree on it run different configs.
uint64_t ConfigDigest(const TrainConfig& config);

// Values that follow from others. All take a config that ValidateConfig has accepted.

int64_t FfnHiddenSize(const TrainConfig& config);
int64_t NumQueryGroups(const TrainConfig& config);
int64_t MaxPositionEmbeddings(const TrainConfig& config);
int64_t LrDecayIters(const TrainConfig& config);

/// vocab_size rounded up to a multiple of make_vocab_size_divisible_by times
/// tensor_model_parallel_size. vocab_size must be set.
int64_t PaddedVocabSize(const TrainConfig& config);

/// Ranks of one replica of the model: tensor × pipeline × context parallel.
int64_t ModelParallelSize(const TrainConfig& config);

/// Replicas of the model: world_size / ModelParallelSize.
int DataParallelSize(const TrainConfig& config, int world_size);

/// Microbatches of one optimizer step on one rank.
int NumMicrobatches(const TrainConfig& config, int world_size);

/// data.split as shares that sum to one: training, validation, test. Throws kConfig at `where`.
std::array<double, 3> SplitShares(std::string_view split, const std::string& where);

}  // namespace cairn
