#include "tests/runtime/config/config_testing.h"

#include <gtest/gtest.h>

namespace cairn {

std::string SmallConfig() {
  return
      R"(model {
  num_layers: 4
  hidden_size: 96
  num_attention_heads: 12
  seq_length: 32
  vocab_size: 1000
}
train {
  micro_batch_size: 2
  global_batch_size: 24
  train_iters: 100
}
optimizer {
  lr: 0.001
}
)";
}

std::string Edited(const std::string& from, const std::string& to) {
  std::string text = SmallConfig();
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

LoadedConfig ParseText(const std::string& text, const std::vector<std::string>& arguments) {
  return ParseConfig({"job.textproto", text}, ParseOverrides(arguments));
}

Error Caught(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::kInternal, "", "");
}

}  // namespace cairn
