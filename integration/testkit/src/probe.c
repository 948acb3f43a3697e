/* A one-file network probe for the tests: statically linked, so that it runs in any root directory.
 *
 *   probe serve PORT           answer TCP and UDP, IPv4 and IPv6: first "ADDRESS PORT\n" of the client, then an echo
 *   probe sink PORT            take in all that comes by TCP, say nothing
 *   probe dns PORT             answer DNS questions over UDP: A is 203.0.113.7, all else absent; to be kept for 5 minutes
 *                              where the name begins with "kept", for no time otherwise
 *   probe tcp HOST PORT [N]    connect, print what the server says of us; with N, send N bytes and check the echo
 *   probe udp HOST PORT        send a datagram, print the answer
 *   probe -- PROGRAM ARGS      run it as an init does: forward SIGTERM, reap everybody, end as it ends
 *   probe hold HOST PORT       keep one connection busy until stdin ends, then print the number of round trips
 *
 * Who asks waits 5 s for a connection or a datagram: what is kept back shows by that. Once connected, it waits 2 min: the
 * machine may stand still for a minute. Exit status: 0 success, 1 failure (said on stderr), 2 usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static int describe(const struct sockaddr_in6 *from, char *text, size_t size) {
  char address[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, &from->sin6_addr, address, sizeof address);
  const char *plain = strncmp(address, "::ffff:", 7) == 0 ? address + 7 : address;
  return snprintf(text, size, "%s %d\n", plain, ntohs(from->sin6_port));
}

static void *echo(void *argument) {
  int fd = (int)(long)argument;
  char buffer[65536];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0)
    for (ssize_t done = 0, w; done < n; done += w)
      if ((w = write(fd, buffer + done, n - done)) <= 0) goto out;
out:
  close(fd);
  return NULL;
}

static void *datagrams(void *argument) {
  int fd = (int)(long)argument;
  char buffer[65536], text[128];
  for (;;) {
    struct sockaddr_in6 from;
    socklen_t length = sizeof from;
    if (recvfrom(fd, buffer, sizeof buffer, 0, (void *)&from, &length) < 0) continue;
    sendto(fd, text, describe(&from, text, sizeof text), 0, (void *)&from, length);
  }
  return NULL;
}

static int bound(int type, int port) {
  int one = 1, zero = 0, fd = socket(AF_INET6, type, 0);
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
  if (bind(fd, (void *)&any, sizeof any)) die("bind");
  return fd;
}

static void serve(int port) {
  pthread_t thread;
  int udp = bound(SOCK_DGRAM, port), tcp = bound(SOCK_STREAM, port);
  if (listen(tcp, 1024)) die("listen");
  pthread_create(&thread, NULL, datagrams, (void *)(long)udp);
  puts("serving");
  fflush(stdout);
  for (;;) {
    struct sockaddr_in6 from;
    socklen_t length = sizeof from;
    char text[128];
    int fd = accept(tcp, (void *)&from, &length);
    if (fd < 0) continue;
    if (write(fd, text, describe(&from, text, sizeof text)) < 0 ||
        pthread_create(&thread, NULL, echo, (void *)(long)fd)) {
      close(fd);
      continue;
    }
    pthread_detach(thread);
  }
}

static void *swallow(void *argument) {
  int fd = (int)(long)argument;
  char buffer[65536];
  while (read(fd, buffer, sizeof buffer) > 0) {}
  close(fd);
  return NULL;
}

static void sink(int port) {
  pthread_t thread;
  int fd, tcp = bound(SOCK_STREAM, port);
  if (listen(tcp, 1024)) die("listen");
  puts("serving");
  fflush(stdout);
  for (;;) {
    if ((fd = accept(tcp, NULL, NULL)) < 0) continue;
    if (pthread_create(&thread, NULL, swallow, (void *)(long)fd)) close(fd);
    else pthread_detach(thread);
  }
}

/* RFC 1035, section 4.1: the question again, and a record that points back at its name. */
static void dns(int port) {
  unsigned char packet[4096], record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 203, 0, 113, 7};
  int fd = bound(SOCK_DGRAM, port);
  puts("serving");
  fflush(stdout);
  for (;;) {
    struct sockaddr_in6 from;
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(fd, packet, 512, 0, (void *)&from, &length), end = 12;
    while (end < got && packet[end]) end += packet[end] + 1;
    if ((end += 5) > got) continue;
    int is_a = packet[end - 4] == 0 && packet[end - 3] == 1, is_kept = !memcmp(packet + 13, "kept", 4);
    record[8] = is_kept ? 300 >> 8 : 0, record[9] = is_kept ? 300 & 255 : 0;
    packet[2] |= 0x80, packet[3] = 0x80;
    memset(packet + 6, 0, 6);
    if (is_a) {
      packet[7] = 1;
      memcpy(packet + end, record, sizeof record);
      end += sizeof record;
    }
    sendto(fd, packet, end, 0, (void *)&from, length);
  }
}

static int connected(const char *host, const char *port, int type) {
  struct addrinfo hints = {.ai_socktype = type}, *found;
  struct timeval limit = {5, 0};
  int error = getaddrinfo(host, port, &hints, &found);
  if (error) {
    fprintf(stderr, "%s: %s\n", host, gai_strerror(error));
    exit(1);
  }
  int fd = socket(found->ai_family, type, 0);
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(fd, found->ai_addr, found->ai_addrlen)) die("connect");
  if (type == SOCK_STREAM) {
    limit.tv_sec = 120;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  return fd;
}

static void greeting(int fd, char *line, size_t size) {
  size_t n = 0;
  while (n + 1 < size && (n == 0 || line[n - 1] != '\n')) {
    ssize_t got = read(fd, line + n, 1);
    if (got <= 0) die("read");
    n += got;
  }
  line[n] = 0;
}

static int tcp(const char *host, const char *port, size_t bytes) {
  char line[256];
  int fd = connected(host, port, SOCK_STREAM);
  greeting(fd, line, sizeof line);
  fputs(line, stdout);
  char *sent = malloc(bytes + 1), *got = malloc(bytes + 1);
  for (size_t i = 0; i < bytes; i++) sent[i] = (char)(i * 2654435761u >> 13);
  for (size_t out = 0, in = 0; in < bytes;) {
    struct pollfd wait = {fd, POLLIN | (out < bytes ? POLLOUT : 0), 0};
    if (poll(&wait, 1, 120000) <= 0) die("poll");
    if (wait.revents & POLLOUT) {
      size_t left = bytes - out;
      ssize_t n = send(fd, sent + out, left, MSG_DONTWAIT);
      if (n < 0 && errno != EAGAIN) die("send");
      if (n > 0) out += n;
    }
    if (wait.revents & (POLLIN | POLLHUP)) {
      ssize_t n = recv(fd, got + in, bytes - in, MSG_DONTWAIT);
      if (n == 0 || (n < 0 && errno != EAGAIN)) die("recv");
      if (n > 0) in += n;
    }
  }
  if (memcmp(sent, got, bytes)) {
    fputs("the echo differs from what was sent\n", stderr);
    return 1;
  }
  return 0;
}

static int udp(const char *host, const char *port) {
  char buffer[2048];
  int fd = connected(host, port, SOCK_DGRAM);
  if (send(fd, "?", 1, 0) != 1) die("send");
  ssize_t n = recv(fd, buffer, sizeof buffer, 0);
  if (n < 0) die("recv");
  fwrite(buffer, 1, n, stdout);
  return 0;
}

static int hold(const char *host, const char *port) {
  char line[256], byte = 'x';
  unsigned long trips = 0;
  int fd = connected(host, port, SOCK_STREAM);
  greeting(fd, line, sizeof line);
  fputs("holding\n", stdout);
  fflush(stdout);
  for (;;) {
    struct pollfd input = {0, POLLIN, 0};
    if (poll(&input, 1, 5) > 0 && read(0, line, sizeof line) <= 0) break;
    if (write(fd, &byte, 1) != 1) die("write");
    if (read(fd, &byte, 1) != 1) die("read");
    trips++;
  }
  printf("%lu\n", trips);
  return 0;
}

static pid_t child;

static void forward(int number) { kill(child, number); }

static int init(char **words) {
  if ((child = fork()) == 0) {
    execvp(words[0], words);
    die(words[0]);
  }
  signal(SIGTERM, forward);
  for (int status;;) {
    pid_t ended = wait(&status);
    if (ended < 0 && errno != EINTR) die("wait");
    if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
}

int main(int count, char **words) {
  if (count >= 3 && !strcmp(words[1], "--")) return init(words + 2);
  signal(SIGPIPE, SIG_IGN);
  if (count == 3 && !strcmp(words[1], "serve")) serve(atoi(words[2]));
  if (count == 3 && !strcmp(words[1], "sink")) sink(atoi(words[2]));
  if (count == 3 && !strcmp(words[1], "dns")) dns(atoi(words[2]));
  if (count >= 4 && !strcmp(words[1], "tcp")) return tcp(words[2], words[3], count > 4 ? strtoul(words[4], NULL, 10) : 0);
  if (count == 4 && !strcmp(words[1], "udp")) return udp(words[2], words[3]);
  if (count == 4 && !strcmp(words[1], "hold")) return hold(words[2], words[3]);
  fputs("usage: probe serve PORT | sink PORT | dns PORT | tcp HOST PORT [BYTES] | udp HOST PORT | hold HOST PORT\n", stderr);
  return 2;
}
