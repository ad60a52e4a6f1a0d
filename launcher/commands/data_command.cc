#include "launcher/commands/data_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "launcher/commands/arguments.h"
#include "runtime/base/error.h"
#include "runtime/data/bpe_trainer.h"
#include "runtime/data/document_reader.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/tokenizer.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// Standard output may be a full disk or a closed pipe: what a user asked for must not vanish
// quietly.
void Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    ThrowErrno(errno, "write", "standard output");
  }
}

void PrintJson(const Json& json) {
  Print(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Reports on standard error how far a long walk has come, at most twice a second.
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)) {}

  void Report(uint64_t done, uint64_t total, int64_t tokens) {
    const auto now = Clock::now();
    if (now - last_ < std::chrono::milliseconds(500)) return;
    last_ = now;
    fmt::print(stderr, "{}: {:.1f}%, {} tokens, {:.1f} MB/s\n", what_,
               total == 0 ? 100.0 : 100.0 * static_cast<double>(done) / static_cast<double>(total),
               tokens, static_cast<double>(done) / 1e6 / std::max(1e-9, Seconds(now - start_)));
  }

  double seconds() const { return Seconds(Clock::now() - start_); }

 private:
  std::string what_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

struct BuildOptions {
  std::vector<std::string> inputs;
  std::string tokenizer;
  std::string output;
  bool append_eod = true;
};

void Build(const BuildOptions& options) {
  const auto tokenizer = LoadTokenizer(options.tokenizer);
  const int32_t end_of_text = tokenizer->end_of_text();
  if (options.append_eod && end_of_text < 0) {
    Throw(ErrorKind::kUsage, "--append-eod",
          "tokenizer {} has no token for the end of a document; --no-append-eod would fit",
          options.tokenizer);
  }
  uint64_t total_bytes = 0;
  for (const std::string& input : options.inputs) total_bytes += DocumentReader(input).size();

  IndexedDatasetWriter writer(options.output, tokenizer->vocab_size());
  Progress progress("data build");
  uint64_t finished_bytes = 0;  // of the inputs before the current one
  for (const std::string& input : options.inputs) {
    DocumentReader reader(input);
    for (std::string text; reader.Next(text);) {
      std::vector<int32_t> tokens = tokenizer->Encode(text);
      if (options.append_eod) tokens.push_back(end_of_text);
      writer.Add(tokens);
      progress.Report(finished_bytes + reader.bytes_read(), total_bytes, writer.num_tokens());
    }
    finished_bytes += reader.size();
  }
  if (writer.num_tokens() == 0) {
    Throw(ErrorKind::kData, options.inputs.front(), "the {} inputs hold no text",
          options.inputs.size());
  }
  writer.Finish();
  fmt::print(stderr,
             "data build: {} documents, {} tokens from {} bytes in {:.1f} s: {}.bin, {}.idx\n",
             writer.num_documents(), writer.num_tokens(), total_bytes, progress.seconds(),
             options.output, options.output);
}

struct Summary {
  int64_t shortest = 0;  // document, in tokens
  int64_t longest = 0;
  double mean = 0;
};

Summary Summarise(const IndexedDataset& data) {
  Summary summary;
  for (int64_t i = 0; i < data.num_documents(); ++i) {
    const int64_t length = data.document_length(i);
    summary.shortest = i == 0 ? length : std::min(summary.shortest, length);
    summary.longest = std::max(summary.longest, length);
  }
  if (data.num_documents() > 0) {
    summary.mean =
        static_cast<double>(data.num_tokens()) / static_cast<double>(data.num_documents());
  }
  return summary;
}

void Info(const std::string& prefix, bool as_json) {
  const IndexedDataset data(prefix);
  const Summary summary = Summarise(data);
  const char* type = TokenTypeName(data.token_type());
  const auto token_bytes = static_cast<int64_t>(TokenTypeBytes(data.token_type()));
  if (as_json) {
    PrintJson({{"prefix", prefix},
               {"documents", data.num_documents()},
               {"sequences", data.num_sequences()},
               {"tokens", data.num_tokens()},
               {"token_type", type},
               {"token_bytes", token_bytes},
               {"document_tokens",
                {{"min", summary.shortest}, {"mean", summary.mean}, {"max", summary.longest}}}});
    return;
  }
  Print(fmt::format(
      "prefix           {}\n"
      "documents        {}\n"
      "sequences        {}\n"
      "tokens           {} ({}, {} bytes)\n"
      "document tokens  {} min, {:.1f} mean, {} max\n",
      prefix, data.num_documents(), data.num_sequences(), data.num_tokens(), type,
      data.num_tokens() * token_bytes, summary.shortest, summary.mean, summary.longest));
}

struct ShowOptions {
  std::string prefix;
  int64_t document = 0;
  std::string tokenizer;
  int64_t count = 256;
  bool as_json = false;
};

void Show(const ShowOptions& options) {
  const IndexedDataset data(options.prefix);
  if (options.document >= data.num_documents()) {
    if (data.num_documents() == 0) {
      Throw(ErrorKind::kUsage, "--document", "the dataset {} has no documents", options.prefix);
    }
    Throw(ErrorKind::kUsage, "--document", "{} is outside 0 to {}, the documents of {}",
          options.document, data.num_documents() - 1, options.prefix);
  }
  const int64_t length = data.document_length(options.document);
  std::vector<int32_t> tokens(std::min(length, options.count));
  data.ReadDocument(options.document, 0, tokens);
  std::string text;
  if (!options.tokenizer.empty()) text = LoadTokenizer(options.tokenizer)->Decode(tokens);
  if (options.as_json) {
    Json json = {{"document", options.document}, {"document_tokens", length}, {"tokens", tokens}};
    if (!options.tokenizer.empty()) json["text"] = text;
    PrintJson(json);
    return;
  }
  fmt::print(stderr, "document {}: {} of {} tokens\n", options.document, tokens.size(), length);
  if (options.tokenizer.empty()) text = fmt::format("{}", fmt::join(tokens, " "));
  Print(text + "\n");
}

// Reads every token; throws where one is damaged or outside the vocabulary.
void ReadThrough(const IndexedDataset& data, int64_t vocab_size) {
  constexpr int64_t kBlockTokens = int64_t{1} << 20;
  Progress progress("data verify");
  std::vector<int32_t> tokens;
  int64_t done = 0;
  for (int64_t sequence = 0; sequence < data.num_sequences(); ++sequence) {
    const int64_t length = data.sequence_lengths()[sequence];
    for (int64_t offset = 0; offset < length; offset += kBlockTokens) {
      tokens.resize(std::min(kBlockTokens, length - offset));
      data.ReadSequence(sequence, offset, tokens, vocab_size);
      done += static_cast<int64_t>(tokens.size());
      progress.Report(done * TokenTypeBytes(data.token_type()),
                      data.num_tokens() * TokenTypeBytes(data.token_type()), done);
    }
  }
}

bool Verify(const std::string& prefix, int64_t vocab_size, bool as_json) {
  try {
    const IndexedDataset data(prefix);
    ReadThrough(data, vocab_size);
    if (as_json) {
      PrintJson({{"prefix", prefix},
                 {"ok", true},
                 {"documents", data.num_documents()},
                 {"tokens", data.num_tokens()}});
    } else {
      Print(fmt::format("{}: {} documents, {} tokens: good\n", prefix, data.num_documents(),
                        data.num_tokens()));
    }
    return true;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) throw;
    if (as_json) {
      PrintJson({{"prefix", prefix},
                 {"ok", false},
                 {"where", error.where()},
                 {"message", error.message()}});
    } else {
      Print(fmt::format("{}: damaged: {}\n", prefix, error.what()));
    }
    return false;
  }
}

void AddBuild(CLI::App& data) {
  auto* const build =
      data.add_subcommand("build", "tokenize text into a Megatron .bin/.idx dataset");
  const auto options = std::make_shared<BuildOptions>();
  build
      ->add_option("input", options->inputs,
                   ".txt (documents end at form feeds) or .jsonl (one {\"text\": ...} a line)")
      ->required()
      ->type_name("INPUT");
  build
      ->add_option("--tokenizer", options->tokenizer,
                   "byte, a tokenizer.json, or a folder of vocab.json and "
                   "merges.txt")
      ->required()
      ->type_name("T");
  build->add_option("--output", options->output, "writes PREFIX.bin and PREFIX.idx")
      ->required()
      ->type_name("PREFIX");
  build->add_flag("--append-eod,!--no-append-eod", options->append_eod,
                  "end each document with the end-of-text token (default)");
  build->callback([options] { Build(*options); });
}

void AddInfo(CLI::App& data) {
  auto* const info = data.add_subcommand("info", "show the sizes of a dataset");
  const auto prefix = std::make_shared<std::string>();
  const auto as_json = std::make_shared<bool>(false);
  info->add_option("prefix", *prefix, "of the .bin and .idx files")
      ->required()
      ->type_name("PREFIX");
  info->add_flag("--json", *as_json, "print JSON");
  info->callback([prefix, as_json] { Info(*prefix, *as_json); });
}

void AddShow(CLI::App& data) {
  auto* const show = data.add_subcommand("show", "show the tokens or the text of a document");
  const auto options = std::make_shared<ShowOptions>();
  show->add_option("prefix", options->prefix, "of the .bin and .idx files")
      ->required()
      ->type_name("PREFIX");
  show->add_option("--document", options->document, "which, from 0")
      ->required()
      ->check(AtLeast<int64_t>(0))
      ->type_name("N");
  show->add_option("--tokenizer", options->tokenizer, "show text instead of ids")->type_name("T");
  show->add_option("--count", options->count, "tokens to show at most")
      ->capture_default_str()
      ->check(AtLeast<int64_t>(0))
      ->type_name("N");
  show->add_flag("--json", options->as_json, "print JSON");
  show->callback([options] { Show(*options); });
}

void AddVerify(CLI::App& data, int& exit_status) {
  auto* const verify =
      data.add_subcommand("verify", "check the files and every token; exit status 1 if damaged");
  const auto prefix = std::make_shared<std::string>();
  const auto vocab_size = std::make_shared<int64_t>(IndexedDataset::kAnyVocabulary);
  const auto as_json = std::make_shared<bool>(false);
  verify->add_option("prefix", *prefix, "of the .bin and .idx files")
      ->required()
      ->type_name("PREFIX");
  verify->add_option("--vocab-size", *vocab_size, "tokens must lie below it")
      ->check(InRange(int64_t{1}, IndexedDataset::kAnyVocabulary))
      ->type_name("N");
  verify->add_flag("--json", *as_json, "print JSON");
  verify->callback([prefix, vocab_size, as_json, &exit_status] {
    if (!Verify(*prefix, *vocab_size, *as_json)) exit_status = kExitCheckFailed;
  });
}

void AddTrainTokenizer(CLI::App& data) {
  auto* const train = data.add_subcommand("train-tokenizer", "train a byte-level BPE tokenizer");
  const auto inputs = std::make_shared<std::vector<std::string>>();
  const auto vocab_size = std::make_shared<int64_t>(0);
  const auto output = std::make_shared<std::string>();
  train->add_option("input", *inputs, ".txt or .jsonl, as for build")
      ->required()
      ->type_name("INPUT");
  train->add_option("--vocab-size", *vocab_size, "tokens, bytes and end of text included")
      ->required()
      ->type_name("N");
  train->add_option("--output", *output, "the tokenizer.json to write")
      ->required()
      ->type_name("FILE");
  train->callback([inputs, vocab_size, output] {
    if (!output->ends_with(".json")) {
      Throw(ErrorKind::kUsage, "--output",
            "\"{}\" does not end in .json, by which it is known again", *output);
    }
    const auto start = Clock::now();
    TrainBpe(*inputs, *vocab_size, *output);
    fmt::print(stderr, "data train-tokenizer: {} tokens in {:.1f} s: {}\n", *vocab_size,
               Seconds(Clock::now() - start), *output);
  });
}

}  // namespace

void AddDataCommand(CLI::App& app, int& exit_status) {
  auto* const data = app.add_subcommand("data", "build, inspect and verify tokenized datasets");
  data->require_subcommand(1);
  AddBuild(*data);
  AddInfo(*data);
  AddShow(*data);
  AddVerify(*data, exit_status);
  AddTrainTokenizer(*data);
}

}  // namespace cairn
