#include "launcher/mfu.h"

#include <gtest/gtest.h>

#include "launcher/factories.h"

namespace cairn {
namespace {

TEST(MfuTest, PeaksByTheDriversName) {
  struct Case {
    const char* model;
    double peak;
  };
  for (const auto& [model, peak] : {Case{"NVIDIA H100 80GB HBM3", 989e12},
                                    {"NVIDIA H100 PCIe", 756e12},
                                    {"NVIDIA H100 NVL", 835e12},
                                    {"NVIDIA H200", 989e12},
                                    {"NVIDIA GH200 480GB", 989e12},
                                    {"NVIDIA A100-SXM4-80GB", 312e12},
                                    {"NVIDIA B200", 2250e12},
                                    {"NVIDIA GB200", 2500e12}}) {
    EXPECT_EQ(PeakFlopsPerSecond(model, "bf16"), peak) << model;
    EXPECT_EQ(PeakFlopsPerSecond(model, "fp16"), peak) << model;
    EXPECT_EQ(PeakFlopsPerSecond(model, "fp32"), std::nullopt) << model;
  }
  for (const char* model : {"", "Tesla T4", "NVIDIA GeForce RTX 4090"}) {
    EXPECT_EQ(PeakFlopsPerSecond(model, "bf16"), std::nullopt) << model;
  }
}

TEST(MfuTest, CountsWhatPublicationsDo) {
  const double s = 2048;
  const double h = 2048;
  const double layers = 24;
  const double vocabulary = 50304;
  TrainConfig config;
  config.mutable_model()->set_num_layers(24);
  config.mutable_model()->set_hidden_size(2048);
  config.mutable_model()->set_num_attention_heads(16);
  config.mutable_model()->set_seq_length(2048);
  config.mutable_model()->set_vocab_size(50257);  // padded
  config.mutable_train()->set_precision("bf16");
  const double token = 72 * layers * h * h * (1 + s / (6 * h) + vocabulary / (12 * h * layers));
  EXPECT_NEAR(ModelFlopsPerToken(config) / token, 1, 1e-12);
  // Causal scores are about half of all.
  EXPECT_NEAR((ModelFlopsPerToken(config) - TrainingFlopsPerToken(config)) / token,
              6 * layers * (s - 1) * h / token, 1e-12);
  const double rate = 0.5 * 989e12 * 8 / token;
  EXPECT_NEAR(ModelFlopsUtilization(config, rate, 8, "NVIDIA H200").value(), 0.5, 1e-12);
  EXPECT_EQ(ModelFlopsUtilization(config, rate, 8, "Tesla T4"), std::nullopt);
}

TEST(MfuTest, TheCpuHasNoPeak) {
  const auto cpu = NewCpuDevice();
  EXPECT_EQ(GpuModel(*cpu), "");
}

}  // namespace
}  // namespace cairn
