/* The engine that every contender owns: it says when its first instruction ran, and answers as an idle Ollama does.
 *
 * `engine serve`, or any name that ends in `run`, serves; other words are answered as `ollama --version` is.
 * Lines that it writes into the FIFO BENCH_STAMPS, the instants in nanoseconds of CLOCK_MONOTONIC:
 *   first 123456789 4711    its first instruction
 *   ready 123456999 4711    its helpers run and it listens
 *   asked 123457999 4711    it has answered its first GET /api/version
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 128, HEAD = 8192 };

static struct pollfd watched[MOST];
static char heads[MOST][HEAD];
static int filled[MOST], n_watched, was_asked;

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void stamp(const char *what, long long at_ns) {
    const char *path = getenv("BENCH_STAMPS");
    int fifo = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fifo < 0)
        return;
    dprintf(fifo, "%s %lld %d\n", what, at_ns, (int)getpid());
    close(fifo);
}

/* Two helpers in the engine's group, and one in a session of its own. */
static void make_helpers(int n) {
    for (int i = 0; i < n; i++)
        if (fork() == 0) {
            if (i == 2)
                setsid();
            for (;;)
                pause();
        }
}

static int listen_on(const char *host) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *colon = host ? strrchr(host, ':') : NULL;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = htons(colon ? atoi(colon + 1) : 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("Error: listen tcp");
        exit(1);
    }
    return listener;
}

static void tell_ready(void) {
    const char *fd = getenv("BENCH_NOTIFY_FD");
    if (fd && write(atoi(fd), "\n", 1) == 1)
        close(atoi(fd));
    stamp("ready", now_ns());
}

/* One answer; 0 when the connection is to be closed after it. */
static int answer(int fd, const char *head) {
    const char *status = "200 OK", *body = "";
    int is_version = !strncmp(head, "GET /api/version ", 17), keeps = !strcasestr(head, "\nconnection: close");
    if (is_version)
        body = "{\"version\":\"0.34.4\"}";
    else if (!strncmp(head, "GET /api/tags ", 14) || !strncmp(head, "GET /api/ps ", 12))
        body = "{\"models\":[]}";
    else if (strncmp(head, "OPTIONS * ", 10))
        status = "404 Not Found", body = "{\"error\":\"not here\"}", keeps = 0;
    dprintf(fd, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n%s", status,
            strlen(body), keeps ? "" : "Connection: close\r\n", body);
    if (is_version && !was_asked++)
        stamp("asked", now_ns());
    return keeps;
}

/* Read what has come and answer whole requests; 0 at the end of the connection. */
static int serve(int i) {
    int fd = watched[i].fd, n = read(fd, heads[i] + filled[i], HEAD - 1 - filled[i]);
    char *end;
    if (n <= 0)
        return 0;
    filled[i] += n;
    heads[i][filled[i]] = 0;
    while ((end = strstr(heads[i], "\r\n\r\n"))) {
        *end = 0;
        if (!answer(fd, heads[i]))
            return 0;
        filled[i] -= end + 4 - heads[i];
        memmove(heads[i], end + 4, filled[i] + 1);
    }
    return filled[i] < HEAD - 1;
}

static void accept_one(void) {
    int fd = accept4(watched[0].fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0 && n_watched == MOST)
        close(fd);
    else if (fd >= 0) {
        filled[n_watched] = 0;
        watched[n_watched++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
}

static void drop(int i) {
    close(watched[i].fd);
    watched[i] = watched[--n_watched];
    filled[i] = filled[n_watched];
    memcpy(heads[i], heads[n_watched], filled[i] + 1);
}

int main(int argc, char **argv) {
    long long first_ns = now_ns();
    size_t length = strlen(argv[0]);
    int is_run = length >= 3 && !strcmp(argv[0] + length - 3, "run");
    if (!is_run && (argc < 2 || strcmp(argv[1], "serve"))) {
        puts("ollama version is 0.34.4");
        return 0;
    }
    stamp("first", first_ns);
    make_helpers(getenv("BENCH_HELPERS") ? atoi(getenv("BENCH_HELPERS")) : 0);
    watched[n_watched++] = (struct pollfd){.fd = listen_on(getenv("OLLAMA_HOST")), .events = POLLIN};
    tell_ready();
    for (;;) {
        poll(watched, n_watched, -1);
        for (int i = n_watched - 1; i > 0; i--)
            if (watched[i].revents && !serve(i))
                drop(i);
        if (watched[0].revents)
            accept_one();
    }
}
