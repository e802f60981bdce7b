#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/calibrator.h"
#include "knapsaq/calib/manifest.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "message_of.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

fs::path model_folder(const std::string& name) {
  return fs::path(KNAPSAQ_TEST_DATA) / "model" / "decoder" / name;
}

/// A tiny model, and what Transformers saw in it (tools/make_calib_references.py).
struct Reference {
  explicit Reference(const std::string& name)
      : checkpoint(Checkpoint::open(model_folder(name))),
        config(parse_model_config(checkpoint.config())),
        file(fs::path(KNAPSAQ_TEST_DATA) / "calib" / (name + ".safetensors")) {
    const TensorView& tokens = file.tensors().at("tokens");
    samples.tokens.resize(static_cast<std::size_t>(tokens.elements()));
    std::memcpy(samples.tokens.data(), tokens.bytes.data(), tokens.bytes.size());
    samples.options = {.samples = tokens.shape[0], .window = tokens.shape[1], .seed = 0};
    samples.text = "text";
    samples.hash = hash_hex(std::as_bytes(std::span(samples.tokens)));
  }
  std::vector<float> expected(const std::string& linear, const char* what) const {
    return read_floats(file.tensors().at(linear + what));
  }
  Calibration calibrate_into(const fs::path& folder, Precision precision = Precision::fp32,
                             bool replace = false) const {
    const auto backend = make_backend({.precision = precision});
    return calibrate(checkpoint, config, fingerprint(checkpoint), samples, *backend, folder, replace);
  }

  Checkpoint checkpoint;
  ModelConfig config;
  SafetensorsFile file;
  Samples samples;
};

/// ||found - expected|| / ||expected||
double relative_error(const std::vector<float>& found, const std::vector<float>& expected) {
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(error / size);
}

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

class CalibrateReference : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, CalibrateReference,
                         ::testing::Values("llama-gqa", "qwen3", "opt", "opt-350m"), [](const auto& one) {
                           std::string name = one.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(CalibrateReference, StatisticsAreThoseOfTransformers) {
  const Reference model(GetParam());
  const std::vector<Matrix> all = linears(model.config);
  const std::vector<std::size_t> owners = input_owners(all);
  // fp32: two implementations of the same forward pass. bf16: inputs and weights are rounded by 2^-9 at most,
  // and a few layers add up; the maximum of a column is one value, the others are means.
  for (const auto& [precision, tolerance, tolerance_of_max] :
       {std::tuple{Precision::fp32, 1e-4, 1e-4}, std::tuple{Precision::bf16, 0.02, 0.03}}) {
    const Scratch scratch;
    const Calibration calibration = model.calibrate_into(scratch / "c", precision);
    EXPECT_TRUE(calibration.has_second_moments());
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::string& owner = all[owners[i]].name;
      const InputStatistics found = calibration.inputs(all[i].name, all[i].in);
      EXPECT_EQ(found.name, owner);
      EXPECT_EQ(found.width, all[i].in);
      EXPECT_EQ(found.tokens, model.samples.tokens.size());
      const std::vector<float> moment = model.expected(owner, ".second_moment");
      ASSERT_EQ(found.second_moment.size(), moment.size());
      EXPECT_LE(relative_error(found.second_moment, moment), tolerance) << all[i].name;
      EXPECT_LE(relative_error(found.mean_abs, model.expected(owner, ".mean_abs")), tolerance);
      EXPECT_LE(relative_error(found.max_abs, model.expected(owner, ".max_abs")), tolerance_of_max);
      const auto n = static_cast<std::size_t>(found.width);
      for (std::size_t k = 0; k < n; ++k) {
        EXPECT_EQ(found.mean_square[k], found.second_moment[k * n + k]);
        for (std::size_t l = 0; l < k; ++l)
          EXPECT_EQ(found.second_moment[k * n + l], found.second_moment[l * n + k]);
      }
    }
  }
}

TEST_P(CalibrateReference, HeadAndEmbeddingAreThoseOfThePass) {
  const Reference model(GetParam());
  const Scratch scratch;
  const Calibration calibration = model.calibrate_into(scratch / "c");
  const std::vector<Matrix> all = matrices(model.config);
  const Matrix& head = model.config.tied ? all.front() : all.back();
  // What the head multiplies, by the functions that calibrate nothing.
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(model.checkpoint, model.config, *backend);
  const auto [samples, window] = std::pair{model.samples.options.samples, model.samples.options.window};
  Hidden hidden = decoder.embed(model.samples.tokens, samples, window);
  for (std::int64_t block = 0; block < model.config.layers; ++block) decoder.block(block, hidden);
  Array input = backend->allocate(hidden.tokens(), head.in, Element::working);
  decoder.head_input(hidden, input);
  const auto n = static_cast<std::size_t>(head.in);
  std::vector<float> x(static_cast<std::size_t>(hidden.tokens()) * n);
  backend->download(input, 0, x);
  std::vector<float> moment(n * n);
  std::vector<float> mean_abs(n);
  std::vector<float> max_abs(n);
  const auto tokens = static_cast<double>(hidden.tokens());
  for (std::size_t k = 0; k < n; ++k) {
    double sum = 0;
    for (std::size_t t = 0; t < x.size(); t += n) {
      sum += std::abs(static_cast<double>(x[t + k]));
      max_abs[k] = std::max(max_abs[k], std::abs(x[t + k]));
    }
    mean_abs[k] = static_cast<float>(sum / tokens);
    for (std::size_t l = 0; l < n; ++l) {
      double product = 0;
      for (std::size_t t = 0; t < x.size(); t += n)
        product += static_cast<double>(x[t + k]) * static_cast<double>(x[t + l]);
      moment[k * n + l] = static_cast<float>(product / tokens);
    }
  }
  const InputStatistics found = calibration.inputs(head.name, head.in);
  EXPECT_EQ(found.name, head.name);
  EXPECT_EQ(found.tokens, model.samples.tokens.size());
  ASSERT_EQ(found.second_moment.size(), moment.size());
  EXPECT_LE(relative_error(found.second_moment, moment), 1e-6);
  EXPECT_LE(relative_error(found.mean_abs, mean_abs), 1e-6);
  EXPECT_EQ(found.max_abs, max_abs);

  // How often tokens look up a row, half a time more than they do.
  const RowShares shares = calibration.row_shares(model.config.vocab);
  ASSERT_EQ(std::ssize(shares), model.config.vocab);
  double sum = 0;
  for (std::int64_t row = 0; row < model.config.vocab; ++row) {
    const auto count = static_cast<double>(std::ranges::count(model.samples.tokens, row));
    const float share = shares[static_cast<std::size_t>(row)];
    EXPECT_NEAR(share, (count + 0.5) / (tokens + 0.5 * static_cast<double>(model.config.vocab)), 1e-7);
    sum += share;
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_THAT(message_of([&] { calibration.row_shares(model.config.vocab + 1); }),
              HasSubstr("another model"));
  // An embedding that is no head multiplies nothing.
  if (!model.config.tied) {
    EXPECT_THAT(message_of([&] { calibration.inputs(all.front().name, all.front().in); }),
                HasSubstr("knows no linear"));
  }
}

TEST_P(CalibrateReference, ThreadsChangeNothing) {
  const Reference model(GetParam());
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const Scratch scratch;
    work_with_threads(1);
    model.calibrate_into(scratch / "one", precision);
    work_with_threads(4);
    model.calibrate_into(scratch / "four", precision);
    work_with_threads(0);
    EXPECT_EQ(contents(scratch / "one"), contents(scratch / "four"));
  }
}

TEST(Calibrate, GoesOnWhereItWasKilled) {
  const Reference model("llama-gqa");
  const Scratch scratch;
  const fs::path folder = scratch / "c";
  model.calibrate_into(folder);
  const auto whole = contents(folder);
  ASSERT_EQ(whole.size(), 4u);  // two blocks, the ends, and what describes them
  const auto manifest_with = [&](std::size_t blocks) {
    Manifest manifest = parse_manifest(whole.at("calibration.json"));
    manifest.blocks.resize(blocks);
    return to_json(manifest);
  };
  const auto resumed = [&] {
    model.calibrate_into(folder);
    return contents(folder);
  };

  // Killed after the first block.
  fs::remove(folder / "block-00001.safetensors");
  write_file(folder / "calibration.json", manifest_with(1));
  EXPECT_THAT(message_of([&] { Calibration::open(folder); }), HasSubstr("unfinished (1 of 2 blocks)"));
  const auto stamp = fs::last_write_time(folder / "block-00000.safetensors");
  EXPECT_EQ(resumed(), whole);
  EXPECT_EQ(fs::last_write_time(folder / "block-00000.safetensors"), stamp);  // not made again

  // Between a block and the description that names it; in the middle of writing; with a finished file gone or
  // damaged.
  write_file(folder / "calibration.json", manifest_with(1));
  EXPECT_EQ(resumed(), whole);
  write_file(folder / "calibration.json", manifest_with(2));
  EXPECT_EQ(resumed(), whole);
  fs::remove(folder / "block-00002.safetensors");
  EXPECT_EQ(resumed(), whole);
  fs::remove_all(folder);
  fs::create_directory(folder);
  write_file(folder / "block-00000.safetensors.partial-1", "xx");
  EXPECT_EQ(resumed(), whole);
  fs::remove(folder / "block-00000.safetensors");
  EXPECT_EQ(resumed(), whole);
  write_file(folder / "block-00001.safetensors", whole.at("block-00001.safetensors").substr(1));
  EXPECT_EQ(resumed(), whole);
}

/// Version 0.1 looked at the linears of the blocks alone, and a kill between the last block and the ends
/// leaves the same.
TEST(Calibrate, AddsTheEndsToWhatVersion01Made) {
  const Reference model("llama-gqa");
  const Scratch scratch;
  const fs::path folder = scratch / "c";
  model.calibrate_into(folder);
  const auto whole = contents(folder);
  Manifest manifest = parse_manifest(whole.at("calibration.json"));
  ASSERT_TRUE(manifest.has_ends());
  manifest.blocks.pop_back();
  write_file(folder / "calibration.json", to_json(manifest));
  fs::remove(folder / "block-00002.safetensors");
  {
    const Calibration old = Calibration::open(folder);
    for (const Matrix& linear : linears(model.config)) EXPECT_NO_THROW(old.inputs(linear.name, linear.in));
    EXPECT_TRUE(old.row_shares(model.config.vocab).empty());
    EXPECT_THAT(message_of([&] { old.inputs("lm_head", 40); }),
                AllOf(HasSubstr("Knapsaq 0.1"), HasSubstr("lm_head"), HasSubstr("knapsaq calibrate")));
  }
  const auto stamp = fs::last_write_time(folder / "block-00001.safetensors");
  const Calibration now = model.calibrate_into(folder);
  EXPECT_EQ(contents(folder), whole);
  EXPECT_EQ(fs::last_write_time(folder / "block-00001.safetensors"), stamp);  // not made again
  EXPECT_FALSE(now.row_shares(model.config.vocab).empty());
}

TEST(Calibrate, EveryWindowGoesThroughEveryBlockOnce) {
  struct Counting final : Progress {
    void begin(std::string_view, std::uint64_t total, std::string_view) override { expected = total; }
    void advance(std::uint64_t done) override { seen += done; }
    void end() override {}
    std::uint64_t expected = 0;
    std::uint64_t seen = 0;
  };
  const Reference model("llama-gqa");
  const Scratch scratch;
  const auto backend = make_backend({.precision = Precision::fp32});
  Counting first;
  calibrate(model.checkpoint, model.config, "id", model.samples, *backend, scratch / "c", false, first);
  EXPECT_EQ(first.expected, (2u + 1u) * 5u);  // and once through the head
  EXPECT_EQ(first.seen, (2u + 1u) * 5u);
  Counting second;  // nothing is left to do
  calibrate(model.checkpoint, model.config, "id", model.samples, *backend, scratch / "c", false, second);
  EXPECT_EQ(second.seen, 0u);
}

TEST(Calibrate, LeavesOtherFoldersAlone) {
  const Reference model("llama-gqa");
  const Scratch scratch;
  const fs::path folder = scratch / "c";
  model.calibrate_into(folder);
  const auto whole = contents(folder);

  Reference other("llama-gqa");
  other.samples.text = "other text";
  EXPECT_THAT(message_of<UsageError>([&] { other.calibrate_into(folder); }),
              AllOf(HasSubstr("made from something else"), HasSubstr("--force")));
  EXPECT_THAT(message_of<UsageError>([&] { model.calibrate_into(folder, Precision::bf16); }),
              HasSubstr("made from something else"));
  EXPECT_THAT(message_of<UsageError>([&] { Reference("qwen3").calibrate_into(folder); }),
              HasSubstr("made from something else"));
  EXPECT_EQ(contents(folder), whole);
  EXPECT_EQ(other.calibrate_into(folder, Precision::fp32, true).source().text, "other text");

  fs::create_directory(scratch / "d");
  write_file(scratch / "d/precious", "");
  for (const bool replace : {false, true})
    EXPECT_THAT(
        message_of<UsageError>([&] { model.calibrate_into(scratch / "d", Precision::fp32, replace); }),
        HasSubstr("something else than a calibration"));
  EXPECT_TRUE(fs::exists(scratch / "d/precious"));
  fs::rename(scratch / "d/precious", scratch / "d/block-1.safetensors");
  EXPECT_THAT(message_of<UsageError>([&] { model.calibrate_into(scratch / "d"); }),
              HasSubstr("something else than a calibration"));
}

TEST(Calibration, BelongsToOneModel) {
  const Reference model("llama-gqa");
  const Scratch scratch;
  const Calibration calibration = model.calibrate_into(scratch / "c");
  EXPECT_NO_THROW(require_same_model(calibration, fingerprint(model.checkpoint)));
  EXPECT_THAT(message_of([&] { require_same_model(calibration, "another"); }),
              AllOf(HasSubstr("another model"), HasSubstr(fingerprint(model.checkpoint))));
  EXPECT_TRUE(is_calibration_of(scratch / "c", calibration.source()));
  CalibrationSource other = calibration.source();
  other.options.seed = 1;
  EXPECT_FALSE(is_calibration_of(scratch / "c", other));
  EXPECT_FALSE(is_calibration_of(scratch / "absent", other));
  EXPECT_THAT(message_of([&] { calibration.inputs("model.layers.9.mlp.up_proj", 40); }),
              HasSubstr("layers.9"));
  EXPECT_THAT(message_of([&] { calibration.inputs("model.layers.0.mlp.up_proj", 41); }),
              AllOf(HasSubstr("40"), HasSubstr("41")));
  EXPECT_THAT(calibration.identity(), AllOf(HasSubstr("5x21"), HasSubstr(model.samples.hash)));
  EXPECT_THAT(message_of([&] { Calibration::open(scratch / "absent"); }), HasSubstr("holds no calibration"));
}

TEST(Calibration, DamageIsNoticed) {
  const Reference model("llama-gqa");
  const Scratch scratch;
  const fs::path folder = scratch / "c";
  model.calibrate_into(folder);
  const fs::path file = folder / "block-00001.safetensors";
  const std::string whole = read_file(file);
  const auto reading = [&](const std::string& content) {
    write_file(file, content);
    const Calibration calibration = Calibration::open(folder);
    calibration.inputs("model.layers.0.mlp.up_proj", 40);  // the other block's file
    return message_of([&] { calibration.inputs("model.layers.1.mlp.up_proj", 40); });
  };
  EXPECT_EQ(reading(whole), "");
  for (const std::size_t place : {std::size_t{0}, std::size_t{30}, whole.size() / 2, whole.size() - 1}) {
    std::string bad = whole;
    bad[place] = static_cast<char>(bad[place] ^ 4);
    EXPECT_THAT(reading(bad), AllOf(HasSubstr("block-00001.safetensors"), HasSubstr("damaged"))) << place;
  }
  EXPECT_THAT(reading(whole.substr(0, whole.size() - 1)), HasSubstr("damaged"));
  EXPECT_THAT(reading(""), HasSubstr("damaged"));
  fs::remove(file);
  EXPECT_THROW(Calibration::open(folder).inputs("model.layers.1.mlp.up_proj", 40), IoError);
  write_file(folder / "calibration.json", "{\"format\": 1}");
  EXPECT_THAT(message_of([&] { Calibration::open(folder); }), HasSubstr("calibration.json"));
}

TEST(Calibration, ValuesThatNoTextMakesAreRefused) {
  // With checksums that fit, as somebody else's program may write them.
  const Reference model("llama-gqa");
  const std::string linear = "model.layers.0.self_attn.o_proj";
  for (const auto& [tensor, value, reason] :
       {std::tuple{".second_moment", std::numeric_limits<float>::quiet_NaN(), "NaN"},
        std::tuple{".second_moment", -1.0f, "negative"}, std::tuple{".mean_square", -1.0f, "negative"},
        std::tuple{".mean_abs", std::numeric_limits<float>::infinity(), "infinity"},
        std::tuple{".max_abs", -0.5f, "negative"}}) {
    const Scratch scratch;
    const fs::path folder = scratch / "c";
    model.calibrate_into(folder);
    const fs::path file = folder / "block-00000.safetensors";
    std::string content = read_file(file);
    {
      const SafetensorsFile opened(file);
      const auto place = opened.tensors().at(linear + tensor).bytes.data() - opened.file().bytes().data();
      std::memcpy(content.data() + place, &value, sizeof(value));
    }
    write_file(file, content);
    Manifest manifest = read_manifest(folder);
    manifest.blocks[0].hash = hash_hex(content);
    write_file(folder / "calibration.json", to_json(manifest));
    EXPECT_THAT(message_of([&] { Calibration::open(folder).inputs(linear, 40); }),
                AllOf(HasSubstr(linear), HasSubstr(reason)));
  }
}

TEST(Calibrate, InputsThatAreNotFiniteNameTheLinear) {
  // Values of the second block grow beyond fp32.
  const Scratch scratch;
  fs::copy(model_folder("llama-gqa") / "config.json", scratch / "config.json");
  std::vector<TensorSpec> specs;
  std::vector<std::vector<float>> values;
  const Checkpoint original = Checkpoint::open(model_folder("llama-gqa"));
  for (const std::string& name : original.names()) {
    specs.push_back({name, DType::F32, original.tensor(name).shape});
    values.push_back(original.floats(name));
    if (name == "model.layers.1.mlp.up_proj.weight" || name == "model.layers.1.mlp.gate_proj.weight")
      for (float& value : values.back()) value *= 1e25f;
  }
  {
    SafetensorsWriter writer(scratch / "model.safetensors", specs);
    for (const auto& one : values) writer.write(std::as_bytes(std::span(one)));
    writer.commit();
  }
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  const Reference model("llama-gqa");
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto backend = make_backend({.precision = precision});
    const fs::path folder = scratch / (precision == Precision::fp32 ? "c32" : "c16");
    EXPECT_THAT(
        message_of([&] { calibrate(checkpoint, model.config, "id", model.samples, *backend, folder); }),
        HasSubstr("the activation in block 1"));
    // The first block is kept.
    EXPECT_EQ(read_manifest(folder).blocks.size(), 1u);
  }
}

TEST(Calibrator, BlocksComeInOrder) {
  const Reference model("llama-gqa");
  const auto backend = make_backend({.precision = Precision::bf16});
  Calibrator calibrator(model.checkpoint, model.config, model.samples, *backend);
  EXPECT_THROW(calibrator.measure(1), std::logic_error);
  EXPECT_THROW(calibrator.measure_head(matrices(model.config).back()), std::logic_error);
  calibrator.advance(0);
  EXPECT_THROW(calibrator.measure(0), std::logic_error);
  Calibrator measured(model.checkpoint, model.config, model.samples, *backend);
  measured.measure(0);
  EXPECT_EQ(statistics_of(calibrator.measure(1)[0]).second_moment,
            statistics_of(measured.measure(1)[0]).second_moment);
}

}  // namespace
}  // namespace knapsaq
