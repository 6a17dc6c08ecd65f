/* The first process of the guest: mounts the host's root under a layer of memory, runs one command
 * in it, says how it ended on the console, and switches the machine off. Everything it needs is in
 * the initramfs beside it: /modules has the kernel modules to load, in order, /version the
 * kernel's, /tree the folder on the host with the kernel's modules, /command the command, one word
 * a line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_LINES = 64, MOST_CHARACTERS = 4096 };

static void must(int outcome, const char* what) {
  if (outcome >= 0) return;
  printf("guest: %s: %s\n", what, strerror(errno));
  fflush(stdout);
  sync();
  reboot(RB_POWER_OFF);
  _exit(1);
}

static char** lines(const char* path) {
  static char text[8][MOST_CHARACTERS];
  static char* all[8][MOST_LINES];
  static int used = 0;
  char* at = text[used];
  char** list = all[used++];
  int fd = open(path, O_RDONLY);
  must(fd, path);
  must((int)read(fd, at, MOST_CHARACTERS - 1), path);
  close(fd);
  int count = 0;
  for (char* line = strtok(at, "\n"); line && count < MOST_LINES - 1; line = strtok(NULL, "\n")) {
    list[count++] = line;
  }
  return list;
}

static void attach(const char* source, const char* target, const char* type, unsigned long flags,
                   const char* options) {
  mkdir(target, 0755);
  must(mount(source, target, type, flags, options), target);
}

static void load(char** modules) {
  for (; *modules; ++modules) {
    int fd = open(*modules, O_RDONLY | O_CLOEXEC);
    must(fd, *modules);
    long outcome = syscall(SYS_finit_module, fd, "", 0);
    if (outcome != 0 && errno != EEXIST) must(-1, *modules);
    close(fd);
  }
}

static void root(void) {
  char path[MOST_CHARACTERS];
  attach("host", "/host", "9p", MS_RDONLY,
         "trans=virtio,version=9p2000.L,cache=loose,msize=524288");
  attach("tmpfs", "/layer", "tmpfs", 0, "mode=755");
  mkdir("/layer/upper", 0755);
  mkdir("/layer/work", 0755);
  attach("overlay", "/root", "overlay", 0,
         "lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work");
  mkdir("/root/usr/lib/modules", 0755);
  snprintf(path, sizeof(path), "/root/usr/lib/modules/%s", *lines("/version"));
  char modules[MOST_CHARACTERS + 8];
  snprintf(modules, sizeof(modules), "/host%s", *lines("/tree"));
  attach(modules, path, NULL, MS_BIND, NULL);
  attach("proc", "/root/proc", "proc", 0, NULL);
  attach("sysfs", "/root/sys", "sysfs", 0, NULL);
  attach("bpf", "/root/sys/fs/bpf", "bpf", 0, "mode=700");
  attach("devtmpfs", "/root/dev", "devtmpfs", 0, NULL);
  attach("tmpfs", "/root/dev/shm", "tmpfs", 0, NULL);
  attach("tmpfs", "/root/run", "tmpfs", 0, "mode=755");
  attach("tmpfs", "/root/tmp", "tmpfs", 0, "mode=1777");
}

static void loopback(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  must(fd, "socket");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  must(ioctl(fd, SIOCSIFFLAGS, &request), "lo");
  close(fd);
}

int main(void) {
  attach("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  int console = open("/dev/console", O_RDWR);
  for (int fd = 0; fd <= 2; ++fd) dup2(console, fd);
  printf("guest: up\n");
  fflush(stdout);
  load(lines("/modules"));
  root();
  char** command = lines("/command");
  must(chroot("/root"), "chroot");
  must(chdir("/"), "chdir");
  loopback();
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1);
  setenv("LC_ALL", "C.UTF-8", 1);
  pid_t child = fork();
  if (child == 0) {
    setsid();
    execvp(command[0], command);
    printf("guest: %s: %s\n", command[0], strerror(errno));
    _exit(127);
  }
  int status = 0;
  for (pid_t ended = 0; ended != child; ended = wait(&status)) {
  }
  printf("guest: exit %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  fflush(stdout);
  sync();
  reboot(RB_POWER_OFF);
  return 0;
}
