/* The least a native reader of an uncompressed trace does: walks every buffer once and keeps thirteen
   columns of each event, in file order. Prints "EVENTS SECONDS", processor time, the best of the runs.
   Trusts its input but for sizes; what it is for is to be the floor of bench_etw.py. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 0x48, SLOTS = 1 << 16 };

static struct {
  int64_t *ts;
  uint64_t *keyword, *offset;
  uint32_t *tid, *pid;
  uint16_t *size, *cpu, *id, *provider;
  uint8_t *type, *version, *opcode, *level;
} col;
static size_t events, room;

static uint8_t guid[SLOTS][16]; /* of the providers; their number is their place, 0 is none */
static uint8_t taken[SLOTS] = {1};

static uint16_t u16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static uint32_t u32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static uint64_t u64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

static uint16_t provider(const uint8_t *p) {
  uint64_t mixed = (u64(p) ^ u64(p + 8)) * 0x9E3779B97F4A7C15u;
  uint16_t at = (uint16_t)(mixed >> 48);
  while (taken[at] && (at == 0 || memcmp(guid[at], p, 16) != 0)) at++;
  if (!taken[at]) { taken[at] = 1; memcpy(guid[at], p, 16); }
  return at;
}

static void more(void) {
  room = room ? room * 2 : 1 << 16;
#define GROW(name) if (!(col.name = realloc(col.name, room * sizeof *col.name))) abort()
  GROW(ts); GROW(keyword); GROW(offset); GROW(tid); GROW(pid); GROW(size); GROW(cpu); GROW(id);
  GROW(provider); GROW(type); GROW(version); GROW(opcode); GROW(level);
}

/* One event; the layouts are those of evntcons.h and ntwmi.h. */
static void keep(const uint8_t *p, uint8_t type, uint16_t size, uint16_t cpu, uint64_t offset) {
  if (events == room) more();
  size_t k = events++;
  int64_t ts = 0;
  uint64_t keyword = 0;
  uint32_t tid = ~0u, pid = ~0u;
  uint16_t id = 0, who = 0;
  uint8_t version = 0, opcode = 0, level = 0;
  if (type <= 4 || type == 16 || type == 17) { /* system, compact, perfinfo */
    version = p[0], id = u16(p + 6), opcode = p[6];
    if (type <= 4) tid = u32(p + 8), pid = u32(p + 12);
    ts = (int64_t)u64(p + (type <= 4 ? 16 : 8));
  } else if (type == 18 || type == 19) { /* EVENT_HEADER */
    tid = u32(p + 8), pid = u32(p + 12), ts = (int64_t)u64(p + 16), who = provider(p + 24);
    id = u16(p + 40), version = p[42], level = p[44], opcode = p[45], keyword = u64(p + 48);
  } else if (type == 10 || type == 11 || type == 20 || type == 21) { /* EVENT_TRACE_HEADER */
    opcode = p[4], level = p[5], version = p[6];
    tid = u32(p + 8), pid = u32(p + 12), ts = (int64_t)u64(p + 16), who = provider(p + 24);
  } else if (type == 15) { /* WPP message */
    uint16_t flags = u16(p + 6);
    const uint8_t *q = p + 8 + (flags & 1 ? 4 : 0);
    id = u16(p + 4);
    if (flags & 4) q += 4;
    else if (flags & 2) who = provider(q), q += 16;
    if (flags & 0x18) ts = (int64_t)u64(q), q += 8;
    if (flags & 0x20) tid = u32(q), pid = u32(q + 4);
  }
  col.ts[k] = ts, col.keyword[k] = keyword, col.offset[k] = offset, col.tid[k] = tid;
  col.pid[k] = pid, col.size[k] = size, col.cpu[k] = cpu, col.id[k] = id, col.provider[k] = who;
  col.type[k] = type, col.version[k] = version, col.opcode[k] = opcode, col.level[k] = level;
}

static void walk(const uint8_t *data, size_t length) {
  for (size_t at = 0; at + HEADER <= length;) {
    const uint8_t *buffer = data + at;
    size_t size = u32(buffer), used = u32(buffer + 4), next = u32(buffer + 0x30);
    uint16_t cpu = u16(buffer + 0x28);
    if (size < HEADER || size > length - at) return;
    if (next > used) used = next;
    if (used > size) used = size;
    for (size_t pos = HEADER; pos + 8 <= used;) {
      const uint8_t *p = buffer + pos;
      uint8_t type = p[2];
      uint16_t bytes = u16(p);
      if (p[3] == 0x90) type = 15;
      else if (p[3] != 0xC0) break;
      else if (type <= 4 || type == 16 || type == 17) bytes = u16(p + 4);
      if (bytes < 8 || bytes > used - pos) break;
      keep(p, type, bytes, cpu, at + pos);
      pos += (bytes + 7u) & ~7u;
    }
    at += size;
  }
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Everything a reader has to do: open and map the file, walk it into new columns, give all back. */
static double once(const char *path) {
  double began = seconds();
  struct stat about;
  int file = open(path, O_RDONLY);
  if (file < 0 || fstat(file, &about)) exit(1);
  size_t length = (size_t)about.st_size;
  const uint8_t *data = mmap(0, length, PROT_READ, MAP_PRIVATE, file, 0);
  if (data == MAP_FAILED) exit(1);
  close(file);
  events = room = 0;
  walk(data, length);
  munmap((void *)data, length);
#define GIVE(name) free(col.name), col.name = 0
  GIVE(ts); GIVE(keyword); GIVE(offset); GIVE(tid); GIVE(pid); GIVE(size); GIVE(cpu); GIVE(id);
  GIVE(provider); GIVE(type); GIVE(version); GIVE(opcode); GIVE(level);
  return seconds() - began;
}

int main(int count, char **words) {
  if (count < 2) return 1;
  double best = 1e9, all = 0;
  for (int run = 0; run < 3 || (all < 0.5 && run < 200); run++) {
    double took = once(words[1]);
    all += took;
    if (took < best) best = took;
  }
  printf("%zu %.9f\n", events, best);
  return 0;
}
