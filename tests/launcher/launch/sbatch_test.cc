#include "launcher/launch/sbatch.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "launcher/launch/slurm.h"
#include "runtime/base/error.h"
#include "runtime/base/subprocess.h"

namespace cairn {
namespace {

SlurmOptions Options() {
  SlurmOptions options;
  options.nodes = 2;
  options.tasks_per_node = 8;
  options.time = "1-12:00:00";
  options.signal_seconds = 300;
  options.job_name = "gpt";
  options.output = "runs/gpt/slurm/%A.log";
  return options;
}

SlurmScript Script() {
  SlurmScript script;
  script.run_dir = "runs/gpt";
  script.load = "auto";
  script.layout = "tp 8 × dp 1 × pp 2";
  script.command = "cairn launch slurm gpt3-1.3b --nodes 2";
  script.program = "/opt/cairn/bin/cairn";
  script.directory = "/home/me";
  return script;
}

std::string Golden(const std::string& name) {
  std::ifstream in(CAIRN_SOURCE_DIR "/tests/launcher/launch/" + name);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A script must at least be one.
void ExpectShellReads(const std::string& script) {
  const ProcessResult result = RunProcess({"bash", "-n", "-c", script});
  EXPECT_EQ(result.status, 0) << result.err;
}

TEST(SbatchTest, PlainJob) {
  SlurmOptions options = Options();
  options.gpus_per_node = 8;
  const std::string script = SbatchScript(options, Script());
  EXPECT_EQ(script, Golden("plain.sbatch"));
  ExpectShellReads(script);
}

TEST(SbatchTest, EverythingAsked) {
  SlurmOptions options = Options();
  options.cpus_per_task = 4;
  options.partition = "gpu";
  options.account = "physics";
  options.container = "images/cairn 1.sif";
  options.array = 3;
  options.as_root = true;
  options.output = "logs of mine/%A_%a.log";
  SlurmScript script = Script();
  script.run_dir = "runs/it's $HOME";
  script.load = "runs/old";
  const std::string text = SbatchScript(options, script);
  EXPECT_EQ(text, Golden("everything.sbatch"));
  ExpectShellReads(text);
}

TEST(SbatchTest, TimeLimits) {
  EXPECT_EQ(ParseTimeLimit("00:00:01"), 1);
  EXPECT_EQ(ParseTimeLimit("12:34:56"), 45296);
  EXPECT_EQ(ParseTimeLimit("48:00:00"), 172800);
  EXPECT_EQ(ParseTimeLimit("2-00:00:00"), 172800);
  for (const char* wrong :
       {"", "1", "1:00", "1:00:00", "00:00:00", "00:60:00", "00:00:60", "-1:00:00", "+1:00:00",
        "-00:10:00", "1-", "1-00", "x-00:10:00", "00:10:00 ", "00-10-00", "999999-00:10:00"}) {
    EXPECT_THROW(ParseTimeLimit(wrong), Error) << wrong;
  }
}

struct WrongOption {
  const char* where;
  void (*break_it)(SlurmOptions&);
};

TEST(SbatchTest, WhatWouldBreakTheScriptIsRefused) {
  EXPECT_NO_THROW(CheckSlurmOptions(Options()));
  for (const WrongOption& wrong : {
           WrongOption{"--partition", [](SlurmOptions& o) { o.partition = "a b"; }},
           WrongOption{"--account", [](SlurmOptions& o) { o.account = "x\n#SBATCH --uid=0"; }},
           WrongOption{"--job-name", [](SlurmOptions& o) { o.job_name = "-x"; }},
           WrongOption{"--container", [](SlurmOptions& o) { o.container = "a\nb"; }},
           WrongOption{"--output", [](SlurmOptions& o) { o.output = "a\rb"; }},
           WrongOption{"--output", [](SlurmOptions& o) { o.output = "job-%j.log"; }},
           WrongOption{"--output", [](SlurmOptions& o) { o.output = "100%"; }},
           WrongOption{"--time", [](SlurmOptions& o) { o.time = "soon"; }},
           WrongOption{"--signal-seconds", [](SlurmOptions& o) { o.signal_seconds = 0; }},
           WrongOption{"--signal-seconds", [](SlurmOptions& o) { o.signal_seconds = 129600; }},
       }) {
    SlurmOptions options = Options();
    wrong.break_it(options);
    try {
      CheckSlurmOptions(options);
      ADD_FAILURE() << wrong.where;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_EQ(error.where(), wrong.where);
    }
  }
}

TEST(SlurmTest, OutputPatterns) {
  EXPECT_EQ(ExpandOutput("a/%A.log", "12", std::nullopt), "a/12.log");
  EXPECT_EQ(ExpandOutput("a/%A_%a%%.log", "12", 3), "a/12_3%.log");
}

TEST(SlurmTest, StatesThatEnd) {
  for (const char* state : {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"}) {
    EXPECT_TRUE((SlurmState{"1", state, "", "", ""}.active())) << state;
  }
  for (const char* state : {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}) {
    EXPECT_FALSE((SlurmState{"1", state, "", "", ""}.active())) << state;
  }
}

}  // namespace
}  // namespace cairn
