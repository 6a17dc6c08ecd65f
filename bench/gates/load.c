// The ends of the packet rate measurement. Both cost as little as they can, since they share the
// machine with what is measured:
//
//   load send  INTERFACE FRAME_IN_HEX PACKETS_PER_SECOND MILLISECONDS   prints how many went out
//   load flood INTERFACE FILE PACKETS_PER_SECOND MILLISECONDS           the same, many frames in
//   turn load count ADDRESS PORT MILLISECONDS                prints how many datagrams came a
//   second
//
// The sender sends one frame again and again through a packet socket, past the queueing discipline;
// or those of a file, each behind its length (two bytes, big-endian), one after the other. The
// receiver is a UDP socket whose filter drops everything, so that nobody is woken for a packet: the
// kernel leads each datagram all the way to the socket and counts it there. It says "ready" first.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { kBatch = 32, kMostFrame = 2048, kMostFrames = 1 << 17 };

static double Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int Must(int result, const char* what) {
  if (result >= 0) return result;
  perror(what);
  exit(1);
}

static struct iovec frames[kMostFrames];
static unsigned frame_count = 0;

static void OneFrame(const char* hex) {
  static uint8_t frame[kMostFrame];
  const size_t size = strlen(hex) / 2;
  for (size_t i = 0; i < size && i < kMostFrame; ++i) sscanf(hex + 2 * i, "%2hhx", &frame[i]);
  // As often as fills a batch.
  while (frame_count < kBatch) frames[frame_count++] = (struct iovec){frame, size};
}

static void FramesOf(const char* path) {
  FILE* file = fopen(path, "rb");
  uint8_t length[2];
  while (file != NULL && frame_count < kMostFrames && fread(length, 2, 1, file) == 1) {
    const size_t size = (size_t)length[0] << 8 | length[1];
    uint8_t* frame = malloc(size);
    if (frame == NULL || fread(frame, size, 1, file) != 1) break;
    frames[frame_count++] = (struct iovec){frame, size};
  }
  frame_count -= frame_count % kBatch;
  if (frame_count > 0) return;
  fprintf(stderr, "%s: not a batch of %d frames in it\n", path, kBatch);
  exit(1);
}

static void Send(const char* interface, double rate, double seconds) {
  const int fd = Must(socket(AF_PACKET, SOCK_RAW, 0), "socket");  // 0: it receives nothing
  const int one = 1;
  Must(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)), "PACKET_QDISC_BYPASS");
  const struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                      .sll_ifindex = (int)if_nametoindex(interface)};
  Must(bind(fd, (const struct sockaddr*)&address, sizeof(address)), "bind");

  static struct mmsghdr messages[kMostFrames];
  for (unsigned i = 0; i < frame_count; ++i) {
    messages[i].msg_hdr.msg_iov = &frames[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  const struct timespec nap = {0, 20000};
  const double start = Now();
  double offered = 0;
  uint64_t sent = 0;
  unsigned next = 0;  // a multiple of kBatch, so that a batch never ends behind the last
  for (double now = start; now < start + seconds; now = Now()) {
    const double due = (now - start) * rate - offered;
    if (due < 1) {
      nanosleep(&nap, NULL);
      continue;
    }
    const unsigned burst = due > kBatch ? kBatch : (unsigned)due;
    const int done = sendmmsg(fd, &messages[next], burst, MSG_DONTWAIT);
    sent += done > 0 ? (unsigned)done : 0;
    offered += burst;  // what found no room was offered all the same
    next = (next + kBatch) % frame_count;
  }
  printf("%lu\n", (unsigned long)sent);
}

static uint32_t Dropped(int fd) {
  uint32_t values[SK_MEMINFO_VARS] = {0};
  socklen_t size = sizeof(values);
  Must(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &size), "SO_MEMINFO");
  return values[SK_MEMINFO_DROPS];
}

static void Count(const char* address, int port, double seconds) {
  const int fd = Must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
  struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
  const struct sock_fprog filter = {1, &nothing};
  Must(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), "SO_ATTACH_FILTER");
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1) exit(2);
  Must(bind(fd, (struct sockaddr*)&to, sizeof(to)), "bind");
  puts("ready");
  fflush(stdout);
  getchar();  // until the sender has been running for a while

  const double start = Now();
  const uint32_t before = Dropped(fd);
  const struct timespec window = {(time_t)seconds,
                                  (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&window, NULL);
  const uint32_t count = Dropped(fd) - before;
  // Per second by its own clock: on a busy machine it wakes up late.
  printf("%.0f\n", count / (Now() - start));
}

int main(int argc, char** argv) {
  if (argc == 6 && strcmp(argv[1], "send") == 0) {
    OneFrame(argv[3]);
    Send(argv[2], atof(argv[4]), atof(argv[5]) / 1e3);
  } else if (argc == 6 && strcmp(argv[1], "flood") == 0) {
    FramesOf(argv[3]);
    Send(argv[2], atof(argv[4]), atof(argv[5]) / 1e3);
  } else if (argc == 5 && strcmp(argv[1], "count") == 0) {
    Count(argv[2], atoi(argv[3]), atof(argv[4]) / 1e3);
  } else {
    fputs(
        "load send INTERFACE FRAME RATE MS | load flood INTERFACE FILE RATE MS | load count "
        "ADDRESS PORT MS\n",
        stderr);
    return 2;
  }
  return 0;
}
