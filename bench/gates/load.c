// The ends of the packet rate measurement: a paced sender of UDP datagrams and a receiver that counts.
//
//   load send  ADDRESS PORT PAYLOAD_BYTES PACKETS_PER_SECOND MILLISECONDS   prints how many it sent
//   load count ADDRESS PORT PAYLOAD_BYTES SKIP_MILLISECONDS MILLISECONDS    prints how many came
//
// The receiver's clock starts with the first datagram; it leaves out SKIP_MILLISECONDS, counts for
// MILLISECONDS and ends, so that neither the start nor the emptying of queues is in the figure. Both
// end by themselves: the sender after its time, the receiver after 3 s without a datagram.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { kBatch = 32, kMostPayload = 2048 };
static const double kWait = 3.0;  // seconds

static double Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void Die(const char* what) {
  perror(what);
  exit(1);
}

static void Send(int fd, struct mmsghdr* messages, double rate, double seconds) {
  // Below this the scheduler cannot sleep any more exactly: at most so much comes in one piece.
  const struct timespec nap = {0, 20000};
  const double start = Now();
  uint64_t sent = 0;
  for (double now = start; now < start + seconds; now = Now()) {
    const double due = (now - start) * rate - (double)sent;
    if (due < 1) {
      nanosleep(&nap, NULL);
      continue;
    }
    // A full queue is what the measurement is about: what does not go out now was still offered.
    const unsigned burst = due > kBatch ? kBatch : (unsigned)due;
    const int done = sendmmsg(fd, messages, burst, MSG_DONTWAIT);
    sent += done > 0 ? (unsigned)done : burst;
  }
  printf("%lu\n", (unsigned long)sent);
}

static void Count(int fd, struct mmsghdr* messages, size_t payload, double skip, double seconds) {
  const struct timeval wait = {(time_t)kWait, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  const int room = 8 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
  double begin = 0;
  uint64_t count = 0;
  for (;;) {
    const int got = recvmmsg(fd, messages, kBatch, MSG_WAITFORONE | MSG_TRUNC, NULL);
    const double now = Now();
    if (got <= 0) break;
    if (begin == 0) begin = now + skip;
    if (now < begin) continue;
    if (now >= begin + seconds) break;
    for (int i = 0; i < got; ++i) count += messages[i].msg_len == payload;
  }
  printf("%lu\n", (unsigned long)count);
}

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const int sends = strcmp(argv[1], "send") == 0;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
  if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) return 2;
  const size_t payload = (size_t)atoi(argv[4]);
  if (payload > kMostPayload) return 2;
  const double first = atof(argv[5]);
  const double milliseconds = atof(argv[6]);

  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) Die("socket");
  static char data[kMostPayload];
  struct iovec part = {data, payload};
  struct mmsghdr messages[kBatch];
  memset(messages, 0, sizeof(messages));
  for (int i = 0; i < kBatch; ++i) {
    messages[i].msg_hdr.msg_iov = &part;
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  if (sends) {
    if (connect(fd, (struct sockaddr*)&address, sizeof(address)) != 0) Die("connect");
    Send(fd, messages, first, milliseconds / 1e3);
  } else {
    if (bind(fd, (struct sockaddr*)&address, sizeof(address)) != 0) Die("bind");
    Count(fd, messages, payload, first / 1e3, milliseconds / 1e3);
  }
  return 0;
}
