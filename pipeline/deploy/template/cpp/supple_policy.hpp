// A policy of Supple as a plain C++17 class: no ROS, no library, no allocation and no exception while it acts.
//
//   supple::Policy policy("acting_path.supple");
//   policy.begin_task();
//   policy.begin_episode();
//   every control period:  status = policy.act(observation, reward, action);
//   policy.end_episode(observation, reward);
//
// A policy that sees has the same calls with the newest picture behind the observation.
//
// The file is written by `supple deploy`; its format stands in graph_file.py of the package. Loading throws
// std::runtime_error and checks every name and size. Only little-endian machines can read the file.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <locale>
#include <map>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace supple {

enum class Op {
  linear, matmul, add, sub, mul, div, min, max, less, relu, tanh, sigmoid, exp, log, softplus, softmax, argmax,
  concat, slice, patches
};

inline std::runtime_error refuse(const std::string& what) {
  return std::runtime_error("acting path: expected " + what + "; deploy the bundle again");
}

// A stream that reads numbers as the file has them, whatever the locale of the program.
inline std::istringstream make_stream(const std::string& text) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  return stream;
}

inline std::size_t read_count(std::istream& line, std::size_t most = 1u << 26) {
  long long value = -1;
  if (!(line >> value) || value < 0 || static_cast<unsigned long long>(value) > most) throw refuse("a count");
  return static_cast<std::size_t>(value);
}

inline double read_number(std::istream& line) {
  std::string word;
  if (!(line >> word)) throw refuse("a number");
  const double infinite = std::numeric_limits<double>::infinity();
  if (word == "inf" || word == "-inf") return word == "inf" ? infinite : -infinite;  // >> does not take these
  std::istringstream number = make_stream(word);  // strtod follows the locale of the program, where 0,5 may be a half
  double value = 0.0;
  if (!(number >> value) || number.peek() != std::istringstream::traits_type::eof()) throw refuse("a number");
  return value;
}

inline std::string read_word(std::istream& line) {
  std::string word;
  if (!(line >> word)) throw refuse("a word");
  return word;
}

// A network as a list of operations on rows of numbers, which all stand in one buffer.
class Graph {
 public:
  std::map<std::string, std::pair<std::size_t, std::size_t>> inputs, outputs;  // begin in the buffer, width
  std::vector<std::string> input_order, output_order;

  void read_line(const std::string& kind, std::istream& line) {
    if (kind == "input") {
      const std::string name = read_word(line);
      const std::size_t width = read_count(line);
      inputs[name] = {place(name, width), width};
      input_order.push_back(name);
    } else if (kind == "constant") {
      const std::string name = read_word(line);
      const std::size_t rows = read_count(line), columns = read_count(line);
      if (columns > 0 && rows > (1u << 26) / columns) throw refuse("a smaller constant");
      if (columns > 0) {
        matrices_.push_back({rows, columns, {}});
        matrix_of_[name] = matrices_.size() - 1;
      } else {
        constants_.push_back({place(name, rows), rows});
      }
      loads_.push_back({columns > 0 ? matrices_.size() - 1 : constants_.size() - 1, columns > 0});
    } else if (kind == "op") {
      read_op(line);
    } else if (kind == "output") {
      const std::string name = read_word(line);
      outputs[name] = find(read_word(line));
      output_order.push_back(name);
    } else {
      throw refuse("a line of a graph, got '" + kind + "'");
    }
  }

  // Numbers of the constants, in the order of their lines.
  void load(const float*& data, const float* end) {
    values_.assign(size_, 0.0f);
    for (const auto& [index, is_matrix] : loads_) {
      if (is_matrix) {
        Matrix& matrix = matrices_[index];
        take(data, end, matrix.rows * matrix.columns);
        matrix.by_column.resize(matrix.rows * matrix.columns);
        for (std::size_t row = 0; row < matrix.rows; ++row)
          for (std::size_t column = 0; column < matrix.columns; ++column)
            matrix.by_column[column * matrix.rows + row] = *data++;
      } else {
        const auto [begin, width] = constants_[index];
        take(data, end, width);
        std::copy(data, data + width, values_.begin() + static_cast<std::ptrdiff_t>(begin));
        data += width;
      }
    }
  }

  static void take(const float* data, const float* end, std::size_t count) {
    if (static_cast<std::size_t>(end - data) < count) throw refuse("more numbers");
    for (std::size_t index = 0; index < count; ++index)
      if (!std::isfinite(data[index])) throw refuse("finite numbers");
  }

  float* input(const std::string& name, std::size_t width) {
    const auto found = inputs.find(name);
    if (found == inputs.end() || found->second.second != width) throw refuse("input " + name);
    return values_.data() + found->second.first;
  }

  float* output(const std::string& name, std::size_t width) {
    const auto found = outputs.find(name);
    if (found == outputs.end() || found->second.second != width) throw refuse("output " + name);
    return values_.data() + found->second.first;
  }

  void run() noexcept {
    for (const Step& step : steps_) run_step(step);
  }

 private:
  struct Matrix {
    std::size_t rows, columns;
    std::vector<float> by_column;
  };
  struct Step {
    Op op;
    std::size_t out, width, matrix;
    std::vector<std::pair<std::size_t, std::size_t>> in;
    std::vector<std::size_t> numbers;
  };

  std::size_t place(const std::string& name, std::size_t width) {
    if (width == 0 || size_ > (1u << 26) - width) throw refuse("a width");
    if (!places_.insert({name, {size_, width}}).second) throw refuse("different names, got '" + name + "' twice");
    size_ += width;
    return size_ - width;
  }

  std::pair<std::size_t, std::size_t> find(const std::string& name) const {
    const auto found = places_.find(name);
    if (found == places_.end()) throw refuse("a known name, got '" + name + "'");
    return found->second;
  }

  void read_op(std::istream& line) {
    static const std::map<std::string, Op> names = {
        {"linear", Op::linear}, {"matmul", Op::matmul}, {"add", Op::add}, {"sub", Op::sub}, {"mul", Op::mul},
        {"div", Op::div}, {"min", Op::min}, {"max", Op::max}, {"less", Op::less}, {"relu", Op::relu},
        {"tanh", Op::tanh}, {"sigmoid", Op::sigmoid}, {"exp", Op::exp}, {"log", Op::log},
        {"softplus", Op::softplus}, {"softmax", Op::softmax}, {"argmax", Op::argmax}, {"concat", Op::concat},
        {"slice", Op::slice}, {"patches", Op::patches}};
    const std::string kind = read_word(line);
    const auto known = names.find(kind);
    if (known == names.end()) throw refuse("a known operation, got '" + kind + "'");
    const std::string output = read_word(line);
    Step step{known->second, 0, read_count(line), 0, {}, {}};
    const std::size_t count = read_count(line, 1u << 16);
    for (std::size_t index = 0; index < count; ++index) {
      const std::string name = read_word(line);
      if (step.op == Op::linear && index == 1) {
        const auto matrix = matrix_of_.find(name);
        if (matrix == matrix_of_.end()) throw refuse("a matrix");
        step.matrix = matrix->second;
      } else {
        step.in.push_back(find(name));
      }
    }
    const std::size_t numbers = read_count(line, 8);
    for (std::size_t index = 0; index < numbers; ++index) step.numbers.push_back(read_count(line));
    check(step);
    step.out = place(output, step.width);
    steps_.push_back(step);
  }

  void check(const Step& step) const {
    const auto width = [&](std::size_t index) { return step.in[index].second; };
    const std::size_t count = step.in.size();
    bool good = false;
    switch (step.op) {
      case Op::linear: {
        good = count == 2 && matrices_[step.matrix].columns == width(0) && matrices_[step.matrix].rows == width(1) &&
               step.width == width(1);
        break;
      }
      case Op::matmul: {
        const auto& n = step.numbers;
        good = count == 2 && n.size() == 3 && n[0] * n[1] == width(0) && n[1] * n[2] == width(1) &&
               n[0] * n[2] == step.width;
        break;
      }
      case Op::add: case Op::sub: case Op::mul: case Op::div: case Op::min: case Op::max: case Op::less:
        good = count == 2 && (width(0) == step.width || width(0) == 1) && (width(1) == step.width || width(1) == 1);
        break;
      case Op::concat: {
        std::size_t total = 0;
        for (const auto& part : step.in) total += part.second;
        good = total == step.width;
        break;
      }
      case Op::slice:
        good = count == 1 && step.numbers.size() == 2 && step.numbers[0] < step.numbers[1] &&
               step.numbers[1] <= width(0) && step.numbers[1] - step.numbers[0] == step.width;
        break;
      case Op::patches: {
        const auto& n = step.numbers;
        good = count == 1 && n.size() == 3 && n[0] >= 2 && n[1] >= 2 && n[0] < 1u << 13 && n[1] < 1u << 13 &&
               n[2] >= 1 && n[2] < 1u << 13 && n[0] * n[1] * n[2] == width(0) &&
               (n[0] / 2) * (n[1] / 2) * 16 * n[2] == step.width;
        break;
      }
      default:
        good = count == 1 && width(0) == step.width;
    }
    if (!good) throw refuse("widths that fit");
  }

  template <class Function>
  void pairwise(const Step& step, Function function) noexcept {
    const float* a = values_.data() + step.in[0].first;
    const float* b = values_.data() + step.in[1].first;
    const std::size_t next_a = step.in[0].second > 1, next_b = step.in[1].second > 1;
    float* out = values_.data() + step.out;
    for (std::size_t index = 0; index < step.width; ++index, a += next_a, b += next_b) out[index] = function(*a, *b);
  }

  template <class Function>
  void each(const Step& step, Function function) noexcept {
    const float* a = values_.data() + step.in[0].first;
    float* out = values_.data() + step.out;
    for (std::size_t index = 0; index < step.width; ++index) out[index] = function(a[index]);
  }

  void run_step(const Step& step) noexcept {
    float* out = values_.data() + step.out;
    const float* a = values_.data() + step.in[0].first;
    switch (step.op) {
      case Op::linear: {
        const Matrix& matrix = matrices_[step.matrix];
        const float* bias = values_.data() + step.in[1].first;
        std::copy(bias, bias + step.width, out);
        const float* column = matrix.by_column.data();
        for (std::size_t index = 0; index < matrix.columns; ++index, column += matrix.rows) {
          const float value = a[index];
          for (std::size_t row = 0; row < matrix.rows; ++row) out[row] += column[row] * value;
        }
        break;
      }
      case Op::matmul: {
        const float* b = values_.data() + step.in[1].first;
        const std::size_t m = step.numbers[0], k = step.numbers[1], n = step.numbers[2];
        for (std::size_t i = 0; i < m; ++i)
          for (std::size_t j = 0; j < n; ++j) {
            float sum = 0.0f;
            for (std::size_t l = 0; l < k; ++l) sum += a[i * k + l] * b[l * n + j];
            out[i * n + j] = sum;
          }
        break;
      }
      case Op::add: pairwise(step, [](float x, float y) { return x + y; }); break;
      case Op::sub: pairwise(step, [](float x, float y) { return x - y; }); break;
      case Op::mul: pairwise(step, [](float x, float y) { return x * y; }); break;
      case Op::div: pairwise(step, [](float x, float y) { return x / y; }); break;
      // a NaN goes on, so that it is seen at the end
      case Op::min: pairwise(step, [](float x, float y) { return y < x ? y : x; }); break;
      case Op::max: pairwise(step, [](float x, float y) { return y > x ? y : x; }); break;
      case Op::less: pairwise(step, [](float x, float y) { return x < y ? 1.0f : 0.0f; }); break;
      case Op::relu: each(step, [](float x) { return x < 0.0f ? 0.0f : x; }); break;
      case Op::tanh: each(step, [](float x) { return std::tanh(x); }); break;
      case Op::sigmoid: each(step, [](float x) { return 0.5f * (std::tanh(0.5f * x) + 1.0f); }); break;
      case Op::exp: each(step, [](float x) { return std::exp(x); }); break;
      case Op::log: each(step, [](float x) { return std::log(x); }); break;
      case Op::softplus:
        each(step, [](float x) { return (x > 0.0f ? x : 0.0f) + std::log1p(std::exp(-std::fabs(x))); });
        break;
      case Op::softmax: {
        float most = a[0], sum = 0.0f;
        for (std::size_t index = 1; index < step.width; ++index) most = std::max(most, a[index]);
        for (std::size_t index = 0; index < step.width; ++index) sum += out[index] = std::exp(a[index] - most);
        for (std::size_t index = 0; index < step.width; ++index) out[index] /= sum;
        break;
      }
      case Op::argmax: {
        std::size_t best = 0;
        for (std::size_t index = 1; index < step.width; ++index)
          if (a[index] > a[best]) best = index;
        std::fill(out, out + step.width, 0.0f);
        out[best] = 1.0f;
        break;
      }
      case Op::concat:
        for (const auto& [begin, width] : step.in) {
          std::copy_n(values_.data() + begin, width, out);
          out += width;
        }
        break;
      case Op::slice: std::copy(a + step.numbers[0], a + step.numbers[1], out); break;
      case Op::patches: {
        const std::size_t height = step.numbers[0], width = step.numbers[1], channels = step.numbers[2];
        for (std::size_t row = 0; row < height / 2; ++row)
          for (std::size_t column = 0; column < width / 2; ++column)
            for (std::size_t down = 0; down < 4; ++down)
              for (std::size_t across = 0; across < 4; ++across, out += channels) {
                const std::size_t y = 2 * row + down, x = 2 * column + across;  // one further than in the picture
                if (y == 0 || x == 0 || y > height || x > width)
                  std::fill_n(out, channels, 0.0f);
                else
                  std::copy_n(a + ((y - 1) * width + x - 1) * channels, channels, out);
              }
        break;
      }
    }
  }

  std::map<std::string, std::pair<std::size_t, std::size_t>> places_;
  std::map<std::string, std::size_t> matrix_of_;
  std::vector<Matrix> matrices_;
  std::vector<std::pair<std::size_t, std::size_t>> constants_;
  std::vector<std::pair<std::size_t, bool>> loads_;
  std::vector<Step> steps_;
  std::vector<float> values_;
  std::size_t size_ = 0;
};

enum class Status {
  ok,
  no_episode,          // begin_episode was not called, or not since another status than ok
  bad_observation,     // not finite, or a reward or a sum of rewards that is not
  bad_action,          // not finite: the observation is far outside of the training data
  out_of_reach,        // the measured start is further outside the limits than one control period allows
};

// The control law: a new latent every `horizon` steps, an action at each, always within the robot's limits.
class Policy {
 public:
  struct Axis {
    std::string name, unit;
    double low = -std::numeric_limits<double>::infinity();
    double high = std::numeric_limits<double>::infinity();
    double max_change = std::numeric_limits<double>::infinity();  // per control period
    int commands = -1;                                            // observation axis that it commands
  };

  std::string bundle;    // digest
  double period = 0.0;   // seconds
  std::size_t horizon = 0;
  std::vector<Axis> observation, action;
  std::size_t picture = 0;  // bytes of a picture, row by row, channels last; 0 for a policy that needs none
  std::size_t features = 0; // of pictures: so many last axes of `observation` are not measured

  // sample: draw from the policy as in training; without it, its mean or its likeliest choice.
  explicit Policy(const std::string& path, bool sample = false, std::uint64_t seed = 0)
      : sample_(sample), generator_(seed) {
    std::ifstream disk(path, std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(disk)), std::istreambuf_iterator<char>());
    std::istringstream file = make_stream(content);
    std::string text;
    std::getline(file, text);
    std::ostringstream head;
    head.imbue(std::locale::classic());
    head << "supple-acting-path 1 " << std::hex << hash(content, text.size() + 1);
    if (text != head.str()) throw refuse("an undamaged file of supple deploy, version 1");
    std::map<std::string, Graph>::iterator graph = graphs_.end();
    std::size_t count = 0;
    while (true) {
      if (!std::getline(file, text)) throw refuse("a whole file");
      std::istringstream line = make_stream(text);
      const std::string kind = read_word(line);
      if (kind == "data") {
        count = read_count(line);
        break;
      }
      if (kind == "end") {
        graph = graphs_.end();
      } else if (kind == "graph") {
        const auto [place, fresh] = graphs_.emplace(read_word(line), Graph());
        if (!fresh) throw refuse("different graphs");
        graph = place;
        order_.push_back(graph->first);
      } else if (graph != graphs_.end()) {
        graph->second.read_line(kind, line);
      } else {
        read_line(kind, line);
      }
    }
    const auto begin = static_cast<std::size_t>(file.tellg());
    if (content.size() - begin != count * sizeof(float)) throw refuse("a whole file");
    std::vector<float> data(count);
    std::memcpy(data.data(), content.data() + begin, count * sizeof(float));
    load(data);
  }

  Policy(const Policy&) = delete;  // graphs are used by their place
  Policy& operator=(const Policy&) = delete;

  // Forgets everything: a new task. An adapted bundle begins with what it knows.
  void begin_task() {
    for (State& state : states_) state.value = state.initial;
    last_reward_ = first_reward_;
    running_ = false;
  }

  // A new episode of the same task. It may allocate nothing, and draws the guess of the task where there is one.
  void begin_episode() noexcept {
    for (State& state : states_)
      if (state.forgotten) std::copy(state.initial.begin(), state.initial.end(), state.value.begin());
    for (const EpisodeInput& given : episode_)
      for (std::size_t index = 0; index < given.mean.size(); ++index)
        given.input[index] = given.mean[index] + given.scale[index] * (sample_ ? normal_(generator_) : 0.0f);
    step_ = 0;
    sum_ = 0.0f;
    first_ = running_ = true;
  }

  // One control step.
  //   seen    observation.size() numbers, raw, in the order and units of `observation`
  //   reward  of the control step before, 0 at the first; only kinds with a memory read it
  //   told    action.size() numbers; unchanged unless the status is ok: hold, and stop
  // Any other status ends the episode: the robot is not commanded on until begin_episode was called.
  Status act(const float* seen, float reward, float* told) noexcept {
    if (!running_) return Status::no_episode;
    const Status status = step(seen, reward, told);
    running_ = status == Status::ok;
    return status;
  }

  // The same for a policy that sees.
  //   measured   observation.size() - features numbers
  //   newest     picture bytes
  Status act(const float* measured, const std::uint8_t* newest, float reward, float* told) noexcept {
    if (!running_) return Status::no_episode;
    return act(look(measured, newest), reward, told);
  }

  Status end_episode(const float* measured, const std::uint8_t* newest, float reward) noexcept {
    if (!running_) return Status::no_episode;
    return end_episode(look(measured, newest), reward);
  }

  // After the last step: agents with a belief take in the last transition. What is not finite is not taken in.
  Status end_episode(const float* seen, float reward) noexcept {
    if (!running_) return Status::no_episode;
    running_ = false;
    if (!is_finite(seen, observation.size()) || !std::isfinite(sum_ + reward)) return Status::bad_observation;
    last_reward_ = sum_ + reward;
    if (end_ == nullptr) return Status::ok;
    std::copy_n(seen, observation.size(), end_observation_);
    *end_reward_ = last_reward_;
    for (const State& state : states_)
      if (state.end_input != nullptr) std::copy(state.value.begin(), state.value.end(), state.end_input);
    end_->run();
    for (const State& state : states_)
      if (state.end_output != nullptr && !is_finite(state.end_output, state.value.size())) return Status::bad_observation;
    for (State& state : states_)
      if (state.end_output != nullptr) std::copy_n(state.end_output, state.value.size(), state.value.begin());
    return Status::ok;
  }

  // Checks the names, in their order, of a robot's axes. Throws std::runtime_error.
  void require_axes(const std::vector<std::string>& seen, const std::vector<std::string>& told) const {
    require("observation", observation, seen);
    require("action", action, told);
  }

  Graph& graph(std::size_t index) { return graphs_.at(order_.at(index)); }

 private:
  struct State {
    std::string name;
    std::vector<float> initial, value;
    bool forgotten = false;
    float *input = nullptr, *output = nullptr, *end_input = nullptr, *end_output = nullptr;
  };
  struct EpisodeInput {
    std::string name;
    std::vector<float> mean, scale;
    float* input = nullptr;
  };
  struct Noise {
    std::string name;
    bool uniform;
    float* input = nullptr;
    std::size_t width = 0;
  };

  static void require(const std::string& what, const std::vector<Axis>& axes, const std::vector<std::string>& names) {
    for (std::size_t index = 0; index < std::max(axes.size(), names.size()); ++index) {
      const std::string wanted = index < axes.size() ? axes[index].name : "none";
      const std::string got = index < names.size() ? names[index] : "none";
      if (wanted != got)
        throw std::runtime_error(what + " axis " + std::to_string(index) + ": expected '" + wanted + "', got '" + got +
                                 "'; order the robot's axes as the bundle's");
    }
  }

  // FNV-1a, 64 bit: against damage, not against people.
  static std::uint64_t hash(const std::string& content, std::size_t begin) {
    std::uint64_t value = 0xcbf29ce484222325u;
    for (std::size_t index = begin; index < content.size(); ++index)
      value = (value ^ static_cast<unsigned char>(content[index])) * 0x100000001b3u;
    return value;
  }

  static std::string read_rest(std::istream& line) {
    std::string rest;
    std::getline(line >> std::ws, rest);
    if (rest.empty()) throw refuse("a name");
    return rest;
  }

  void read_line(const std::string& kind, std::istream& line) {
    if (kind == "bundle") {
      bundle = read_word(line);
    } else if (kind == "period") {
      period = read_number(line);
    } else if (kind == "horizon") {
      horizon = read_count(line);
    } else if (kind == "reward") {
      first_reward_ = static_cast<float>(read_number(line));
    } else if (kind == "observation") {
      Axis axis;
      axis.unit = read_word(line);
      axis.name = read_rest(line);
      observation.push_back(axis);
    } else if (kind == "picture") {
      const std::size_t height = read_count(line, 4096), width = read_count(line, 4096);
      channels_ = read_count(line, 16);
      frames_ = read_count(line, 4096);
      picture = height * width * channels_;
      if (picture == 0 || frames_ == 0) throw refuse("a size of pictures");
    } else if (kind == "action") {
      Axis axis;
      axis.unit = read_word(line);
      axis.low = read_number(line);
      axis.high = read_number(line);
      axis.max_change = read_number(line);
      const double place = read_number(line);
      if (!(place >= -1.0 && place < 1e6)) throw refuse("an observation axis, or -1");
      axis.commands = static_cast<int>(place);
      axis.name = read_rest(line);
      if (!(axis.low < axis.high && axis.max_change > 0.0)) throw refuse("limits of action axis '" + axis.name + "'");
      action.push_back(axis);
    } else if (kind == "noise") {
      const std::string shape = read_word(line);
      if (shape != "normal" && shape != "uniform") throw refuse("normal or uniform noise");
      noise_.push_back({read_word(line), shape == "uniform"});
    } else if (kind == "state") {
      State state;
      state.name = read_word(line);
      state.initial.resize(read_count(line));
      states_.push_back(state);
    } else if (kind == "forget") {
      const std::string name = read_word(line);
      for (State& state : states_) state.forgotten |= state.name == name;
    } else if (kind == "episode") {
      EpisodeInput given;
      given.name = read_word(line);
      given.mean.resize(read_count(line));
      given.scale.resize(given.mean.size());
      episode_.push_back(given);
    } else {
      throw refuse("a line that is known, got '" + kind + "'");
    }
  }

  static void fill(std::vector<float>& values, const float*& data, const float* end) {
    Graph::take(data, end, values.size());
    std::copy_n(data, values.size(), values.begin());
    data += values.size();
  }

  void load(const std::vector<float>& numbers) {
    const float *data = numbers.data(), *end = data + numbers.size();
    for (State& state : states_) fill(state.initial, data, end);
    for (EpisodeInput& given : episode_) {
      fill(given.mean, data, end);
      fill(given.scale, data, end);
    }
    for (const std::string& name : order_) graphs_.at(name).load(data, end);
    if (data != end) throw refuse("as many numbers as the lines say");
    if (observation.empty() || action.empty() || horizon == 0 || !(period > 0.0) || graphs_.count("policy") == 0 ||
        graphs_.count("decoder") == 0)
      throw refuse("axes, a period, a horizon and the graphs policy and decoder");
    for (Axis& axis : action)
      if (axis.commands < -1 || axis.commands >= static_cast<int>(observation.size())) throw refuse("an axis");
    policy_ = &graphs_.at("policy");
    decoder_ = &graphs_.at("decoder");
    const std::size_t width = observation.size(), latent = decoder_->inputs.at("latent").second;
    latent_ = policy_->output("latent", latent);
    decoder_latent_ = decoder_->input("latent", latent);
    action_ = decoder_->output("action", action.size());
    policy_observation_ = policy_->input("observation", width);
    if (decoder_->inputs.count("observation")) decoder_observation_ = decoder_->input("observation", width);
    latent_width_ = latent;
    if (policy_->inputs.count("reward")) policy_reward_ = policy_->input("reward", 1);
    if (policy_->inputs.count("first")) policy_first_ = policy_->input("first", 1);
    for (Noise& noise : noise_) {
      noise.width = policy_->inputs.at(noise.name).second;
      noise.input = policy_->input(noise.name, noise.width);
    }
    for (EpisodeInput& given : episode_) given.input = policy_->input(given.name, given.mean.size());
    const auto ending = graphs_.find("end_episode");
    end_ = ending == graphs_.end() ? nullptr : &ending->second;
    for (State& state : states_) {
      state.value = state.initial;
      const std::size_t size = state.initial.size();
      state.input = policy_->input(state.name, size);
      state.output = policy_->output(state.name + ".next", size);
      if (end_ != nullptr && end_->inputs.count(state.name)) state.end_input = end_->input(state.name, size);
      if (end_ != nullptr && end_->outputs.count(state.name + ".next"))
        state.end_output = end_->output(state.name + ".next", size);
    }
    if (end_ != nullptr) {
      end_observation_ = end_->input("observation", width);
      end_reward_ = end_->input("reward", 1);
    }
    const auto seeing = graphs_.find("eye");
    if ((seeing == graphs_.end()) != (picture == 0)) throw refuse("an eye where there are pictures");
    if (seeing != graphs_.end()) {
      eye_ = &seeing->second;
      pictures_ = eye_->input("pictures", picture * frames_);
      const auto found = eye_->outputs.find("feature");
      features = found == eye_->outputs.end() ? 0 : found->second.second;
      if (features == 0 || features >= observation.size()) throw refuse("features behind what the robot measures");
      feature_ = eye_->output("feature", features);
    }
    seen_.assign(observation.size(), 0.0f);
    sent_.assign(action.size(), 0.0f);
    wanted_.assign(action.size(), 0.0f);
    begin_task();
  }

  // The command at which the robot stays as it is: the measured value, or the one nearest to zero.
  void rest(const float* seen) noexcept {
    for (std::size_t index = 0; index < action.size(); ++index) {
      const Axis& axis = action[index];
      const float zero = static_cast<float>(std::min(std::max(0.0, axis.low), axis.high));
      sent_[index] = axis.commands >= 0 ? seen[axis.commands] : zero;
    }
  }

  // The whole observation; not a number where there is no eye, or no picture.
  const float* look(const float* measured, const std::uint8_t* newest) noexcept {
    const std::size_t own = observation.size() - features;
    std::copy_n(measured, own, seen_.begin());
    std::fill(seen_.begin() + static_cast<std::ptrdiff_t>(own), seen_.end(), std::numeric_limits<float>::quiet_NaN());
    if (eye_ == nullptr || newest == nullptr) {
      seen_[0] = std::numeric_limits<float>::quiet_NaN();
      return seen_.data();
    }
    float* pixel = pictures_;
    for (std::size_t index = 0; index < picture; index += channels_, pixel += frames_ * channels_)
      for (std::size_t frame = 0; frame < frames_; ++frame)
        for (std::size_t channel = 0; channel < channels_; ++channel)
          pixel[frame * channels_ + channel] = step_ == 0 || frame + 1 == frames_
                                                   ? static_cast<float>(newest[index + channel])
                                                   : pixel[(frame + 1) * channels_ + channel];
    eye_->run();
    std::copy_n(feature_, features, seen_.begin() + static_cast<std::ptrdiff_t>(own));
    return seen_.data();
  }

  static bool is_finite(const float* numbers, std::size_t count) noexcept {
    return std::all_of(numbers, numbers + count, [](float number) { return std::isfinite(number); });
  }

  Status step(const float* seen, float reward, float* told) noexcept {
    if (!is_finite(seen, observation.size()) || !std::isfinite(reward)) return Status::bad_observation;
    if (step_ > 0) sum_ += reward;
    if (!std::isfinite(sum_)) return Status::bad_observation;
    if (step_ == 0) rest(seen);
    if (step_ % horizon == 0 && !decide(seen)) return Status::bad_action;
    ++step_;
    if (decoder_observation_ != nullptr) std::copy_n(seen, observation.size(), decoder_observation_);
    decoder_->run();
    return limit(told);
  }

  // Chooses a latent; false where it, or what is to be remembered, is not finite: then nothing is remembered.
  bool decide(const float* seen) noexcept {
    const float reward = first_ ? last_reward_ : sum_;
    sum_ = 0.0f;
    std::copy_n(seen, observation.size(), policy_observation_);
    if (policy_reward_ != nullptr) *policy_reward_ = reward;
    if (policy_first_ != nullptr) *policy_first_ = first_ ? 1.0f : 0.0f;
    for (const Noise& noise : noise_)
      for (std::size_t index = 0; index < noise.width; ++index)
        noise.input[index] = noise.uniform ? (sample_ ? uniform_(generator_) : 0.5f)
                                           : (sample_ ? normal_(generator_) : 0.0f);
    for (const State& state : states_) std::copy(state.value.begin(), state.value.end(), state.input);
    policy_->run();
    bool good = is_finite(latent_, latent_width_);
    for (const State& state : states_) good = good && is_finite(state.output, state.value.size());
    if (!good) return false;
    for (State& state : states_) std::copy_n(state.output, state.value.size(), state.value.begin());
    std::copy_n(latent_, latent_width_, decoder_latent_);
    last_reward_ = reward;
    first_ = false;
    return true;
  }

  // The nearest command that the limits allow; as ActionLimits.apply of supple.adapt.safety.
  Status limit(float* told) noexcept {
    for (std::size_t index = 0; index < action.size(); ++index) {
      if (!std::isfinite(action_[index])) return Status::bad_action;
      const Axis& axis = action[index];
      const double last = sent_[index];
      double allowed = std::min(std::max<double>(action_[index], last - axis.max_change), last + axis.max_change);
      allowed = std::min(std::max(allowed, axis.low), axis.high);
      float sent = static_cast<float>(allowed);
      if (std::fabs(sent - last) > axis.max_change) sent = std::nextafter(sent, sent_[index]);
      if (!(std::fabs(sent - last) <= axis.max_change && sent >= axis.low && sent <= axis.high))
        return Status::out_of_reach;
      wanted_[index] = sent;
    }
    std::copy(wanted_.begin(), wanted_.end(), sent_.begin());
    std::copy(wanted_.begin(), wanted_.end(), told);
    return Status::ok;
  }

  bool sample_;
  std::mt19937_64 generator_;
  std::normal_distribution<float> normal_{0.0f, 1.0f};
  std::uniform_real_distribution<float> uniform_{0.0f, 1.0f};
  std::map<std::string, Graph> graphs_;
  std::vector<std::string> order_;
  std::vector<State> states_;
  std::vector<EpisodeInput> episode_;
  std::vector<Noise> noise_;
  Graph *policy_ = nullptr, *decoder_ = nullptr, *end_ = nullptr;
  float *latent_ = nullptr, *decoder_latent_ = nullptr, *action_ = nullptr, *policy_observation_ = nullptr;
  float *decoder_observation_ = nullptr, *policy_reward_ = nullptr, *policy_first_ = nullptr;
  float *end_observation_ = nullptr, *end_reward_ = nullptr, *pictures_ = nullptr, *feature_ = nullptr;
  Graph* eye_ = nullptr;
  std::size_t channels_ = 0, frames_ = 0;
  std::size_t latent_width_ = 0, step_ = 0;
  std::vector<float> seen_, sent_, wanted_;
  float sum_ = 0.0f, last_reward_ = 0.0f, first_reward_ = 0.0f;
  bool first_ = true, running_ = false;
};

}  // namespace supple
