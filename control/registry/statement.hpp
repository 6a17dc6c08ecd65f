// One prepared statement of SQLite: bind in order, step, read columns. For the store's own files.
#pragma once

#include <fmt/format.h>
#include <sqlite3.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace portcullis {

inline Error Broken(sqlite3* db, const std::string& doing) {
  return {ErrorKind::kInternal,
          fmt::format("the store failed at {}: {}", doing, sqlite3_errmsg(db)),
          {},
          {},
          {}};
}

class Statement {
 public:
  Statement(sqlite3* db, const char* sql) : db_(db), sql_(sql) {
    sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(const std::string& text) {
    sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }
  Statement& Bind(uint64_t number) {
    sqlite3_bind_int64(statement_, ++bound_, static_cast<int64_t>(number));
    return *this;
  }
  /// NULL where there is none.
  Statement& Bind(std::optional<int64_t> number) {
    ++bound_;
    if (number) sqlite3_bind_int64(statement_, bound_, *number);
    return *this;
  }
  /// In seconds since 1970, rounded down.
  Statement& Bind(std::chrono::system_clock::time_point time) {
    const auto whole = std::chrono::floor<std::chrono::seconds>(time);
    return Bind(std::optional<int64_t>(whole.time_since_epoch().count()));
  }
  /// For one that is kept: nothing is bound, no row is read and none held any more.
  Statement& Again() {
    sqlite3_reset(statement_);
    bound_ = 0;
    return *this;
  }
  /// True: there is a row.
  Result<bool> Step() {
    if (statement_ == nullptr) return tl::unexpected(Broken(db_, sql_));
    const int outcome = sqlite3_step(statement_);
    if (outcome == SQLITE_ROW) return true;
    if (outcome == SQLITE_DONE) return false;
    return tl::unexpected(Broken(db_, sql_));
  }
  Result<void> Run() {
    const auto row = Step();
    if (!row) return tl::unexpected(row.error());
    return {};
  }
  [[nodiscard]] std::string Text(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return text == nullptr
               ? std::string()
               : std::string(text, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }
  [[nodiscard]] uint64_t Number(int column) const {
    return static_cast<uint64_t>(sqlite3_column_int64(statement_, column));
  }
  /// As Bind() writes it.
  [[nodiscard]] std::chrono::system_clock::time_point Time(int column) const {
    return std::chrono::system_clock::time_point(
        std::chrono::seconds(sqlite3_column_int64(statement_, column)));
  }
  [[nodiscard]] std::optional<int64_t> MaybeNumber(int column) const {
    if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return {};
    return sqlite3_column_int64(statement_, column);
  }

 private:
  sqlite3* db_;
  const char* sql_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

/// The next row, as `read` has it; nothing: there is none.
template <class T>
Result<std::optional<T>> ReadRow(Statement& s, Result<T> (*read)(const Statement&)) {
  const auto row = s.Step();
  if (!row) return tl::unexpected(row.error());
  if (!*row) return std::optional<T>();
  auto one = read(s);
  if (!one) return tl::unexpected(one.error());
  return std::optional<T>(*std::move(one));
}

template <class T>
Result<std::vector<T>> ReadRows(Statement& s, Result<T> (*read)(const Statement&)) {
  std::vector<T> all;
  for (;;) {
    auto next = ReadRow(s, read);
    if (!next) return tl::unexpected(next.error());
    if (!*next) return all;
    all.push_back(**std::move(next));
  }
}

/// A list of texts, which a column holds as JSON.
std::vector<std::string> ListOf(const std::string& text);

}  // namespace portcullis
