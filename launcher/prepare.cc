#include "launcher/prepare.h"

#include <filesystem>

#include "runtime/base/subprocess.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

bool Prepared(const TrainConfig& config) {
  return fs::exists(config.data().data_path(0) + ".idx") && fs::exists(config.data().tokenizer());
}

}  // namespace

void PrepareQuickstartData(const TrainConfig& config, const Program& program) {
  if (Prepared(config)) return;
  const std::string script =
      (fs::path(program.sources.configs_dir).parent_path() / "launcher" / "prepare_data.sh")
          .string();
  if (!fs::exists(script)) {
    Throw(ErrorKind::kData, config.data().data_path(0),
          "the quickstart's data is not there; run ./launcher/quickstart.sh in the source tree "
          "first");
  }
  const std::string folder = fs::path(config.data().data_path(0)).parent_path().string();
  const int status = RunProcessHere({"sh", script, program.executable, folder});
  if (status != 0 || !Prepared(config)) {
    Throw(ErrorKind::kData, script, "did not prepare {}; its messages above say why", folder);
  }
}

}  // namespace cairn
