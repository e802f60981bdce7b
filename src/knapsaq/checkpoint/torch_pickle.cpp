#include "knapsaq/checkpoint/torch_pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

/// A tensor takes about 150 bytes of pickle, so this allows 100 000 of them; it bounds the memory that a
/// hostile file can use.
constexpr std::size_t kLongestPickle = std::size_t{16} << 20;
constexpr std::size_t kMostDimensions = 16;

/// The instructions that a state dict needs, by their names in Python's pickletools.
enum Opcode : std::uint8_t {
  MARK = '(',
  STOP = '.',
  BININT = 'J',
  BININT1 = 'K',
  BININT2 = 'M',
  NONE = 'N',
  BINPERSID = 'Q',
  REDUCE = 'R',
  BINUNICODE = 'X',
  EMPTY_TUPLE = ')',
  BUILD = 'b',
  GLOBAL = 'c',
  BINGET = 'h',
  LONG_BINGET = 'j',
  BINPUT = 'q',
  LONG_BINPUT = 'r',
  SETITEM = 's',
  TUPLE = 't',
  SETITEMS = 'u',
  EMPTY_DICT = '}',
  PROTO = 0x80,
  TUPLE1 = 0x85,
  TUPLE2 = 0x86,
  TUPLE3 = 0x87,
  NEWTRUE = 0x88,
  NEWFALSE = 0x89,
  LONG1 = 0x8a
};

/// Names of instructions that other pickles have, for the message.
constexpr std::array<std::pair<std::uint8_t, std::string_view>, 16> kRefused{{{'i', "INST"},
                                                                              {'o', "OBJ"},
                                                                              {'P', "PERSID"},
                                                                              {']', "EMPTY_LIST"},
                                                                              {'e', "APPENDS"},
                                                                              {'a', "APPEND"},
                                                                              {'G', "BINFLOAT"},
                                                                              {'U', "SHORT_BINSTRING"},
                                                                              {'B', "BINBYTES"},
                                                                              {'C', "SHORT_BINBYTES"},
                                                                              {0x81, "NEWOBJ"},
                                                                              {0x8c, "SHORT_BINUNICODE"},
                                                                              {0x92, "NEWOBJ_EX"},
                                                                              {0x93, "STACK_GLOBAL"},
                                                                              {0x94, "MEMOIZE"},
                                                                              {0x95, "FRAME"}}};

/// The callables that a GLOBAL may name.
enum class Callable : std::uint8_t { ordered_dict, rebuild_tensor, rebuild_parameter, storage };
struct Global {
  std::string_view name;
  Callable callable;
  DType type = DType::F32;  ///< of a storage
};
constexpr std::array<Global, 14> kGlobals{{{"collections OrderedDict", Callable::ordered_dict},
                                           {"torch._utils _rebuild_tensor_v2", Callable::rebuild_tensor},
                                           {"torch._utils _rebuild_parameter", Callable::rebuild_parameter},
                                           {"torch FloatStorage", Callable::storage, DType::F32},
                                           {"torch HalfStorage", Callable::storage, DType::F16},
                                           {"torch BFloat16Storage", Callable::storage, DType::BF16},
                                           {"torch DoubleStorage", Callable::storage, DType::F64},
                                           {"torch LongStorage", Callable::storage, DType::I64},
                                           {"torch IntStorage", Callable::storage, DType::I32},
                                           {"torch ShortStorage", Callable::storage, DType::I16},
                                           {"torch CharStorage", Callable::storage, DType::I8},
                                           {"torch ByteStorage", Callable::storage, DType::U8},
                                           {"torch BoolStorage", Callable::storage, DType::BOOL},
                                           {"torch UInt16Storage", Callable::storage, DType::U16}}};

/// A value on the stack. Everything with a size is in a vector of the machine, so copying a value is cheap,
/// and values that contain themselves do no harm.
struct Value {
  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,  ///< number
    text,     ///< [number, number + size) of the pickle
    tuple,    ///< [number, number + size) of tuple_items_
    dict,     ///< dicts_[number]
    global,   ///< kGlobals[number]
    storage,  ///< storages_[number]
    tensor    ///< tensors_[number]
  };
  Kind kind = Kind::none;
  std::uint32_t size = 0;
  std::int64_t number = 0;
};
using Kind = Value::Kind;

class Machine {
 public:
  explicit Machine(std::span<const std::byte> pickle)
      : text_(reinterpret_cast<const char*>(pickle.data()), pickle.size()) {}

  std::vector<StoredTensor> run() {
    while (step()) {
    }
    if (stack_.size() != 1 || !marks_.empty() || stack_[0].kind != Kind::dict)
      throw InputError("its pickle is not a dictionary of tensors (a state dict)");
    return state_dict(dicts_[stack_[0].number]);
  }

 private:
  using Dict = std::vector<std::pair<Value, Value>>;
  struct Storage {
    DType type;
    Value key;
    std::int64_t elements;
  };

  [[noreturn]] void fail(const std::string& reason) const {
    throw InputError(fmt::format("its pickle {} (at byte {})", reason, start_));
  }

  std::string_view take(std::size_t size) {
    if (size > text_.size() - position_) fail("is truncated");
    const std::string_view taken = text_.substr(position_, size);
    position_ += size;
    return taken;
  }

  template <class Number>
  Number take_number() {
    Number value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string_view take_line() {
    const std::size_t end = text_.find('\n', position_);
    if (end == text_.npos) fail("is truncated");
    const std::string_view line = take(end - position_);
    ++position_;
    return line;
  }

  void push(Kind kind, std::int64_t number, std::size_t size = 0) {
    stack_.push_back({kind, static_cast<std::uint32_t>(size), number});
  }

  /// Throws unless this many values are above the last mark.
  void need(std::size_t count) const {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() - floor < count) fail("takes more values than it has");
  }

  Value pop() {
    need(1);
    const Value value = stack_.back();
    stack_.pop_back();
    return value;
  }

  /// Index of the first value above the last mark; removes the mark.
  std::size_t pop_mark() {
    if (marks_.empty()) fail("has no mark where one is needed");
    const std::size_t mark = marks_.back();
    marks_.pop_back();
    return mark;
  }

  void make_tuple(std::size_t count) {
    need(count);
    const std::size_t first = tuple_items_.size();
    tuple_items_.insert(tuple_items_.end(), stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    push(Kind::tuple, static_cast<std::int64_t>(first), count);
  }

  void make_dict() {
    push(Kind::dict, static_cast<std::int64_t>(dicts_.size()));
    dicts_.emplace_back();
  }

  Dict& dict_on_top() {
    need(1);
    if (stack_.back().kind != Kind::dict) fail("sets items of what is no dictionary");
    return dicts_[stack_.back().number];
  }

  void set_items(std::size_t first) {
    const std::vector<Value> items(stack_.begin() + static_cast<std::ptrdiff_t>(first), stack_.end());
    stack_.resize(first);
    if (items.size() % 2 != 0) fail("has a key without a value");
    Dict& dict = dict_on_top();
    for (std::size_t i = 0; i < items.size(); i += 2) dict.emplace_back(items[i], items[i + 1]);
  }

  void put(std::uint32_t slot) {
    need(1);
    memo_[slot] = stack_.back();
  }

  void get(std::uint32_t slot) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) fail("recalls a value that was never remembered");
    stack_.push_back(found->second);
  }

  std::span<const Value> items(const Value& tuple) const {
    if (tuple.kind != Kind::tuple) fail("has arguments that are no tuple");
    return std::span(tuple_items_).subspan(static_cast<std::size_t>(tuple.number), tuple.size);
  }

  std::string_view text(const Value& value) const {
    if (value.kind != Kind::text) fail("has something else where a text belongs");
    return text_.substr(static_cast<std::size_t>(value.number), value.size);
  }

  std::int64_t count(const Value& value) const {
    if (value.kind != Kind::integer || value.number < 0) fail("has something else where a count belongs");
    return value.number;
  }

  std::vector<std::int64_t> counts(const Value& tuple) const {
    std::vector<std::int64_t> out;
    if (items(tuple).size() > kMostDimensions) fail("has a tensor of too many dimensions");
    for (const Value& value : items(tuple)) out.push_back(count(value));
    return out;
  }

  void global() {
    const std::string_view module = take_line();
    const std::string name = fmt::format("{} {}", module, take_line());
    const auto found = std::ranges::find(kGlobals, name, &Global::name);
    if (found == kGlobals.end())
      fail("names " + in_quotes(name) +
           ", which is not needed to store weights and is not run; save the model's state_dict() alone, or "
           "use "
           "safetensors");
    push(Kind::global, found - kGlobals.begin());
  }

  /// ('storage', class, key, device, elements)
  void persistent_id() {
    const Value id = pop();
    const std::span<const Value> fields = items(id);
    if (fields.size() != 5 || text(fields[0]) != "storage" || fields[1].kind != Kind::global ||
        kGlobals[fields[1].number].callable != Callable::storage)
      fail("has a persistent id that is no storage of a known type");
    static_cast<void>(text(fields[2]));
    push(Kind::storage, static_cast<std::int64_t>(storages_.size()));
    storages_.push_back({kGlobals[fields[1].number].type, fields[2], count(fields[4])});
  }

  void reduce() {
    const Value arguments = pop();
    const Value callable = pop();
    if (callable.kind != Kind::global) fail("calls what cannot be called");
    const std::span<const Value> args = items(arguments);
    switch (kGlobals[callable.number].callable) {
      case Callable::ordered_dict:
        if (!args.empty()) fail("makes an OrderedDict from arguments");
        make_dict();
        return;
      case Callable::rebuild_parameter:  // (tensor, requires_grad, hooks)
        if (args.size() != 3 || args[0].kind != Kind::tensor) fail("makes a parameter of what is no tensor");
        stack_.push_back(args[0]);
        return;
      case Callable::rebuild_tensor: {  // (storage, offset, sizes, strides, requires_grad, hooks[, metadata])
        if ((args.size() != 6 && args.size() != 7) || args[0].kind != Kind::storage)
          fail("makes a tensor of what is no storage");
        const Storage& storage = storages_[args[0].number];
        StoredTensor tensor;
        tensor.type = storage.type;
        tensor.storage = text(storage.key);
        tensor.storage_elements = storage.elements;
        tensor.offset = count(args[1]);
        tensor.shape = counts(args[2]);
        tensor.strides = counts(args[3]);
        if (tensor.shape.size() != tensor.strides.size()) fail("has a tensor with more sizes than strides");
        push(Kind::tensor, static_cast<std::int64_t>(tensors_.size()));
        tensors_.push_back(std::move(tensor));
        return;
      }
      case Callable::storage:
        fail("calls a storage class");
    }
  }

  void long_integer() {
    const std::size_t size = take_number<std::uint8_t>();
    if (size > 8) fail("has an integer of more than 64 bits");
    const std::string_view bytes = take(size);
    // Two's complement, as short as possible: the highest bit of the last byte is the sign.
    std::uint64_t value = size > 0 && (bytes.back() & 0x80) != 0 ? ~std::uint64_t{0} : 0;
    std::memcpy(&value, bytes.data(), size);
    push(Kind::integer, static_cast<std::int64_t>(value));
  }

  /// One instruction; false after the last.
  bool step() {
    start_ = position_;
    const auto opcode = take_number<std::uint8_t>();
    switch (opcode) {
      case PROTO:
        if (const auto protocol = take_number<std::uint8_t>(); protocol != 2)
          fail(fmt::format("has protocol {}; torch.save writes protocol 2", protocol));
        return true;
      case STOP:
        return false;
      case MARK:
        marks_.push_back(stack_.size());
        return true;
      case NONE:
        push(Kind::none, 0);
        return true;
      case NEWTRUE:
      case NEWFALSE:
        push(Kind::boolean, opcode == NEWTRUE);
        return true;
      case BININT:
        push(Kind::integer, take_number<std::int32_t>());
        return true;
      case BININT1:
        push(Kind::integer, take_number<std::uint8_t>());
        return true;
      case BININT2:
        push(Kind::integer, take_number<std::uint16_t>());
        return true;
      case LONG1:
        long_integer();
        return true;
      case BINUNICODE: {
        const auto size = take_number<std::uint32_t>();
        push(Kind::text, static_cast<std::int64_t>(position_), size);
        if (!is_utf8(take(size))) fail("has a text that is not UTF-8");
        return true;
      }
      case EMPTY_TUPLE:
        make_tuple(0);
        return true;
      case TUPLE1:
      case TUPLE2:
      case TUPLE3:
        make_tuple(opcode - TUPLE1 + 1u);
        return true;
      case TUPLE:
        make_tuple(stack_.size() - pop_mark());
        return true;
      case EMPTY_DICT:
        make_dict();
        return true;
      case SETITEM:
        need(2);
        set_items(stack_.size() - 2);
        return true;
      case SETITEMS:
        set_items(pop_mark());
        return true;
      case BUILD:
        // Attributes of the state dict (its _metadata): weights do not depend on them.
        if (pop().kind != Kind::dict) fail("sets attributes that are no dictionary");
        static_cast<void>(dict_on_top());
        return true;
      case GLOBAL:
        global();
        return true;
      case BINPERSID:
        persistent_id();
        return true;
      case REDUCE:
        reduce();
        return true;
      case BINPUT:
        put(take_number<std::uint8_t>());
        return true;
      case LONG_BINPUT:
        put(take_number<std::uint32_t>());
        return true;
      case BINGET:
        get(take_number<std::uint8_t>());
        return true;
      case LONG_BINGET:
        get(take_number<std::uint32_t>());
        return true;
      default:
        break;
    }
    const auto named = std::ranges::find(kRefused, opcode, &std::pair<std::uint8_t, std::string_view>::first);
    fail(fmt::format("has the instruction 0x{:02x}{}{}, which no dictionary of tensors needs", opcode,
                     named == kRefused.end() ? "" : " ", named == kRefused.end() ? "" : named->second));
  }

  std::vector<StoredTensor> state_dict(const Dict& dict) const {
    std::vector<StoredTensor> out;
    std::set<std::string_view> names;
    for (const auto& [key, value] : dict) {
      const std::string_view name = text(key);
      if (value.kind != Kind::tensor)
        throw InputError("entry " + in_quotes(name) +
                         " of its dictionary is not a tensor; save the model's state_dict() alone");
      if (!names.insert(name).second) throw InputError("tensor " + in_quotes(name) + " occurs twice");
      out.push_back(tensors_[value.number]);
      out.back().name = name;
    }
    return out;
  }

  std::string_view text_;
  std::size_t position_ = 0;
  std::size_t start_ = 0;  ///< of the current instruction
  std::vector<Value> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, Value> memo_;
  std::vector<Value> tuple_items_;
  std::vector<Dict> dicts_;
  std::vector<Storage> storages_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace

std::vector<StoredTensor> read_torch_pickle(std::span<const std::byte> pickle) {
  if (pickle.size() > kLongestPickle)
    throw InputError(fmt::format("its pickle has {} bytes, more than any dictionary of tensors needs ({})",
                                 pickle.size(), kLongestPickle));
  return Machine(pickle).run();
}

}  // namespace knapsaq
