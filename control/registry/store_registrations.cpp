// The store's part that says which peers are registered with which protected server.
#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using Time = std::chrono::system_clock::time_point;

Result<Store::Registrations> Store::ReadRegistrations() {
  Registrations all;
  Statement s(db_.get(), "SELECT interface, peer, since FROM registration");
  for (;;) {
    const auto row = s.Step();
    if (!row) return tl::unexpected(row.error());
    if (!*row) return all;
    all.emplace(std::pair(s.Text(0), s.Text(1)), s.Time(2));
  }
}

Result<void> Store::AddRegistration(const std::string& interface, const std::string& peer,
                                    Time since) {
  Statement s(db_.get(), "INSERT OR IGNORE INTO registration VALUES (?, ?, ?)");
  return s.Bind(interface).Bind(peer).Bind(since).Run();
}

Result<void> Store::RemoveRegistration(const std::string& interface, const std::string& peer) {
  Statement s(db_.get(), "DELETE FROM registration WHERE interface = ? AND peer = ?");
  return s.Bind(interface).Bind(peer).Run();
}

}  // namespace portcullis
