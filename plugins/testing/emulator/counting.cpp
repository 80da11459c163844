// Requests: the n-th access of each lane of a warp at one place of the source, between two stops of the warp, is taken
// for one instruction. (A lane that skips a turn of a loop which others take is so counted with their earlier turn.)
#include <algorithm>
#include <unordered_map>

#include "memory.h"

namespace dinn360::simt {
namespace {

struct Request {
  uint32_t lanes = 0;
  uint64_t at[32];
};

struct Instruction {
  Space space{};
  int bytes = 0;
  std::vector<Request> requests;
  size_t used = 0;
  uint32_t turn[32] = {};
};

struct Key {
  void const* site;
  uint32_t kind;
  bool operator==(Key const&) const = default;
};
struct Hash {
  size_t operator()(Key const& key) const { return reinterpret_cast<size_t>(key.site) * 31 + key.kind; }
};

// When a sector of a tensor was last loaded, in which block and in which launch, and last stored to.
struct Seen {
  std::vector<uint64_t> block;
  std::vector<uint32_t> launch, stored;
};

std::unordered_map<Key, Instruction, Hash> instructions;
std::vector<Instruction*> touched;
std::vector<Seen> seen;

void count_global(Instruction const& instruction, Request const& request, EmulatorReport& report) {
  uint64_t sectors[32];
  int count = 0, active = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (request.lanes >> lane & 1) {
      ++active;
      sectors[count++] = request.at[lane] >> 5;  // an access of up to 16 aligned bytes lies in one sector
    }
  }
  std::sort(sectors, sectors + count);
  count = static_cast<int>(std::unique(sectors, sectors + count) - sectors);
  auto const tensor = static_cast<size_t>(sectors[0] >> 43);
  EmulatorTensor* const total = tensor < 8 ? &report.tensors[tensor] : nullptr;
  bool const load = instruction.space == Space::kGlobalLoad;
  ++(load ? report.load_requests : report.store_requests);
  (load ? report.load_sectors : report.store_sectors) += count;
  (load ? report.load_bytes : report.store_bytes) += static_cast<uint64_t>(active) * instruction.bytes;
  if (total == nullptr) return;
  (load ? total->load_sectors : total->store_sectors) += count;
  uint64_t const block = uint64_t{machine.launch_number} << 32 | machine.block_number;
  for (int i = 0; i < count; ++i) {
    uint64_t const sector = sectors[i] & ((uint64_t{1} << 43) - 1);
    if (!load) {
      if (seen[tensor].stored[sector] != machine.launch_number) ++total->stored_sectors;
      seen[tensor].stored[sector] = machine.launch_number;
      continue;
    }
    if (seen[tensor].block[sector] != block) ++total->block_sectors;
    if (seen[tensor].launch[sector] != machine.launch_number) ++total->launch_sectors;
    seen[tensor].block[sector] = block;
    seen[tensor].launch[sector] = machine.launch_number;
  }
}

// 32 banks of 4 bytes. A request wider than 128 bytes goes in parts: half warps of 8 bytes, quarter warps of 16. Each
// part takes as many wavefronts as the busiest bank has different words.
void count_shared(Instruction const& instruction, Request const& request, EmulatorReport& report) {
  int const words = std::max(instruction.bytes / 4, 1), lanes = 32 / words;
  ++report.shared_requests;
  for (int first = 0; first < 32; first += lanes) {
    uint64_t banks[32][32];
    int busy[32] = {}, most = 0;
    for (int lane = first; lane < first + lanes; ++lane) {
      if (!(request.lanes >> lane & 1)) continue;
      for (int i = 0; i < words; ++i) {
        uint64_t const word = request.at[lane] / 4 + i;
        int const bank = static_cast<int>(word % 32);
        if (std::find(banks[bank], banks[bank] + busy[bank], word) == banks[bank] + busy[bank]) {
          banks[bank][busy[bank]++] = word;
          most = std::max(most, busy[bank]);
        }
      }
    }
    report.shared_wavefronts += most;
    report.shared_conflicts += most > 0 ? most - 1 : 0;
  }
}

}  // namespace

void begin_counting(std::vector<Tensor> const& tensors, EmulatorReport* report) {
  instructions.clear();
  touched.clear();
  seen.clear();
  for (Tensor const& tensor : tensors) {
    if (tensor.begin == nullptr || tensor.bytes == 0) continue;
    size_t const sectors = tensor.bytes / 32 + 1;
    if (seen.size() < 8) {
      EmulatorTensor& total = report->tensors[seen.size()];
      std::strncpy(total.name, tensor.name, sizeof(total.name) - 1);
      total.bytes = tensor.bytes;
    }
    seen.emplace_back();
    seen.back().block.assign(sectors, 0);  // launches count from 1
    seen.back().launch.assign(sectors, 0);
    seen.back().stored.assign(sectors, 0);
  }
}

void note_lane(int lane, Access const& access) {
  void const* site;
  static_assert(sizeof(site) == sizeof(access.site));
  std::memcpy(&site, &access.site, sizeof(site));
  Instruction& instruction =
      instructions[{site, static_cast<uint32_t>(access.space) << 8 | static_cast<uint32_t>(access.bytes)}];
  instruction.space = access.space;
  instruction.bytes = access.bytes;
  if (instruction.used == 0) touched.push_back(&instruction);
  uint32_t const turn = instruction.turn[lane]++;
  if (turn >= instruction.used) {
    instruction.used = turn + 1;
    if (instruction.requests.size() < instruction.used) instruction.requests.resize(2 * instruction.used);
    instruction.requests[turn].lanes = 0;
  }
  Request& request = instruction.requests[turn];
  request.lanes |= 1u << lane;
  request.at[lane] = access.at;
}

void note(Access const& access) {
  if (machine.report != nullptr) note_lane(machine.lane(), access);
}

void count_requests() {
  if (machine.report == nullptr) return;
  for (Instruction* const instruction : touched) {
    bool const global = instruction->space == Space::kGlobalLoad || instruction->space == Space::kGlobalStore;
    for (size_t i = 0; i < instruction->used; ++i) {
      (global ? count_global : count_shared)(*instruction, instruction->requests[i], *machine.report);
    }
    instruction->used = 0;
    std::fill(std::begin(instruction->turn), std::end(instruction->turn), 0u);
  }
  touched.clear();
}

}  // namespace dinn360::simt
