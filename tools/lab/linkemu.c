/* A long thin link between two network namespaces: delay, loss and rate in each direction.
 *
 * The kernels that the tests run on have no netem. So each namespace gets a TUN device, and this process carries the
 * packets across: a packet waits for its turn on the wire (rate), is lost by chance (loss) or because the queue before
 * the wire is full, and arrives after the delay.
 *
 * Invariant: packets of one direction never overtake each other, and what waits is bounded by QUEUE_SECONDS of wire time
 * plus the delay, or by SLOTS packets.
 *
 * usage: linkemu NAMESPACE-A DEVICE-A NAMESPACE-B DEVICE-B DELAY-MS LOSS-PERCENT RATE-MBIT
 * The devices are made; addresses and "up" are the caller's affair. Says "ready" once both exist. Standard input takes
 * commands of one letter: "d", the link is down and loses everything without a word; "u", it is up again. Ends when
 * standard input does, so that it never outlives whoever started it. Chance is seeded: two runs lose alike.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX 65536
#define SLOTS 32768
/* What may wait for its turn on the wire, as routers have it. */
#define QUEUE_SECONDS 0.1
/* Packets taken from one device before the other has its turn. */
#define BURST 64

struct packet {
    double arrives;
    size_t length;
    unsigned char *bytes;
};

/* One direction of the link. */
struct way {
    int from, to;
    double wire_free; /* when the wire has carried everything so far */
    uint64_t first, last; /* packets under way: slots first..last */
    struct packet slots[SLOTS];
};

struct link {
    double delay, loss, bytes_per_second;
    int is_down;
};

static struct way ways[2];

static void fail(const char *what) {
    fprintf(stderr, "linkemu: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec time;
    if (clock_gettime(CLOCK_MONOTONIC, &time) != 0) fail("clock");
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double number(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != 0 || !(value >= 0)) {
        fprintf(stderr, "linkemu: %s is no number from 0\n", text);
        exit(2);
    }
    return value;
}

/* Makes a TUN device in a namespace. */
static int device(const char *namespace, const char *name) {
    char path[256];
    if (snprintf(path, sizeof path, "/var/run/netns/%s", namespace) >= (int)sizeof path ||
        strlen(name) >= IFNAMSIZ) {
        fprintf(stderr, "linkemu: a name is too long\n");
        exit(2);
    }
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) != 0) fail(path);
    close(space);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0) fail("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(request.ifr_name, name);
    if (ioctl(tun, TUNSETIFF, &request) != 0) fail(name);
    return tun;
}

/* Takes packets that a namespace sends; whether there were any. */
static int take(struct way *way, const struct link *link) {
    static unsigned char bytes[PACKET_MAX];
    int taken = 0;
    for (; taken < BURST; taken++) {
        ssize_t length = read(way->from, bytes, sizeof bytes);
        /* Nothing there, or the device is down. */
        if (length <= 0) break;
        double start = now(), end = start;
        if (link->is_down) continue;
        if (way->last - way->first == SLOTS) continue;
        if (link->bytes_per_second > 0) {
            if (way->wire_free > start) start = way->wire_free;
            if (start - end > QUEUE_SECONDS) continue;
            end = start + (double)length / link->bytes_per_second;
            way->wire_free = end;
        }
        /* Lost on the way: it had its turn on the wire. */
        if (drand48() < link->loss) continue;
        struct packet *packet = &way->slots[way->last % SLOTS];
        packet->bytes = malloc((size_t)length);
        if (packet->bytes == NULL) continue;
        memcpy(packet->bytes, bytes, (size_t)length);
        packet->length = (size_t)length;
        packet->arrives = end + link->delay;
        way->last++;
    }
    return taken > 0;
}

/* Hands over what has arrived; when the next packet does, or a second from now. */
static double give(struct way *way, double time) {
    while (way->first < way->last) {
        struct packet *packet = &way->slots[way->first % SLOTS];
        if (packet->arrives > time) return packet->arrives;
        /* A device that is down or full loses it. */
        if (write(way->to, packet->bytes, packet->length) < 0 && errno == EINTR) continue;
        free(packet->bytes);
        way->first++;
    }
    return time + 1;
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: linkemu NAMESPACE-A DEVICE-A NAMESPACE-B DEVICE-B DELAY-MS LOSS-PERCENT RATE-MBIT\n");
        return 2;
    }
    struct link link = {
        .delay = number(arguments[5]) / 1e3,
        .loss = number(arguments[6]) / 100,
        .bytes_per_second = number(arguments[7]) * 1e6 / 8,
    };
    int a = device(arguments[1], arguments[2]), b = device(arguments[3], arguments[4]);
    ways[0].from = ways[1].to = a;
    ways[0].to = ways[1].from = b;
    srand48(1);
    puts("ready");
    if (fflush(stdout) != 0) fail("standard output");
    for (;;) {
        int busy = take(&ways[0], &link) | take(&ways[1], &link);
        double time = now();
        double next = give(&ways[0], time), other = give(&ways[1], time);
        if (other < next) next = other;
        double wait = busy ? 0 : next - now();
        if (wait < 0) wait = 0;
        struct timespec limit = {(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
        struct pollfd watched[3] = {{a, POLLIN, 0}, {b, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        if (ppoll(watched, 3, &limit, NULL) < 0 && errno != EINTR) fail("poll");
        if (watched[2].revents != 0) {
            char command;
            if (read(STDIN_FILENO, &command, 1) <= 0) return 0;
            if (command == 'd' || command == 'u') link.is_down = command == 'd';
        }
    }
}
