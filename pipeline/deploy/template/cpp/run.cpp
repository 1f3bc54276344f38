// Runs a policy on numbers from stdin, for parity tests, or times it.
//
//   run FILE graphs   repeats: an int32 (which graph), its inputs; prints its outputs (float32, in the file's order)
//   run FILE act      repeats: an int32 (0 begin_task, 1 begin_episode, 2 act, 3 end_episode), and for 2 and 3 the
//                     observation, the reward and, for a policy that sees, the picture; for 2 prints the status as a float32 and the action
//   run FILE time N   microseconds of N calls of act: p50, p99, p99.9
#include <chrono>
#include <cstdio>
#include <iostream>

#include "supple_policy.hpp"

static bool read(void* place, std::size_t bytes) { return std::fread(place, 1, bytes, stdin) == bytes; }

static void write(const float* numbers, std::size_t count) {
  std::fwrite(numbers, sizeof(float), count, stdout);
  std::fflush(stdout);
}

static int run_graphs(supple::Policy& policy) {
  for (std::int32_t which = 0; read(&which, sizeof which);) {
    supple::Graph& graph = policy.graph(static_cast<std::size_t>(which));
    for (const std::string& name : graph.input_order) {
      const std::size_t width = graph.inputs.at(name).second;
      if (!read(graph.input(name, width), width * sizeof(float))) return 2;
    }
    graph.run();
    for (const std::string& name : graph.output_order) {
      const std::size_t width = graph.outputs.at(name).second;
      write(graph.output(name, width), width);
    }
  }
  return 0;
}

static int run_act(supple::Policy& policy) {
  std::vector<float> seen(policy.observation.size() - policy.features + 1), told(policy.action.size() + 1);
  std::vector<std::uint8_t> picture(policy.picture);
  for (std::int32_t call = 0; read(&call, sizeof call);) {
    if (call >= 2 && !(read(seen.data(), seen.size() * sizeof(float)) && read(picture.data(), picture.size()))) return 2;
    if (call == 0) policy.begin_task();
    if (call == 1) policy.begin_episode();
    if (call == 2) {
      told[0] = static_cast<float>(policy.picture > 0
                                       ? policy.act(seen.data(), picture.data(), seen.back(), told.data() + 1)
                                       : policy.act(seen.data(), seen.back(), told.data() + 1));
      write(told.data(), told.size());
    }
    if (call == 3 && policy.picture > 0) policy.end_episode(seen.data(), picture.data(), seen.back());
    if (call == 3 && policy.picture == 0) policy.end_episode(seen.data(), seen.back());
  }
  return 0;
}

static int run_time(supple::Policy& policy, long count) {
  std::vector<float> seen(policy.observation.size(), 0.1f), told(policy.action.size());
  const std::vector<std::uint8_t> picture(policy.picture);
  std::vector<double> times;
  policy.begin_episode();
  for (long index = 0; index < count; ++index) {
    const auto begin = std::chrono::steady_clock::now();
    if (policy.picture > 0)
      policy.act(seen.data(), picture.data(), 0.0f, told.data());
    else
      policy.act(seen.data(), 0.0f, told.data());
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(times.begin(), times.end());
  for (const double part : {0.5, 0.99, 0.999})
    std::printf("%.3f ", times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1))]);
  std::printf("\n");
  return 0;
}

int main(int count, char** words) try {
  if (count < 3) throw std::runtime_error("run: expected FILE and graphs, act or time, got less");
  const std::string mode = words[2];
  supple::Policy policy(words[1]);
  if (mode == "graphs") return run_graphs(policy);
  if (mode == "act") return run_act(policy);
  if (mode == "time" && count == 4) return run_time(policy, std::max(1L, std::atol(words[3])));
  throw std::runtime_error("run: expected graphs, act or time N, got '" + mode + "'");
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 2;
}
