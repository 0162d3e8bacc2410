/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Load, pin, close, uninstall; metrics, events, collection. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

#define DROP_EVENTS_A_SECOND 1000 /* per CPU */

/* The coarse clock ticks once a jiffy, so its resolution is 1/HZ. */
static uint32_t kernel_hz(void)
{
	struct timespec res;

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &res) || res.tv_nsec <= 0)
		return 100;
	return (uint32_t)((1000000000l + res.tv_nsec / 2) / res.tv_nsec);
}

void datapath_settings_default(struct tw_settings *out)
{
	uint32_t hz = kernel_hz();

	*out = (struct tw_settings){
		.hz = hz,
		.masquerade4 = 1,
		.masquerade6 = 1,
		.snat_first = 61000,
		.snat_last = 65535,
		.agent_dead = 10 * hz,
		/*
		 * Lifetimes: the new ones outlast the usual retransmissions; an established TCP
		 * connection is kept longer than the two hours of RFC 1122 keep-alives (RFC 5382
		 * REQ-5 asks for 2 h 4 min); UDP and ICMP as in RFC 4787 REQ-5 and RFC 5508 REQ-1.
		 */
		.life_tcp_new = 60 * hz,
		.life_tcp_established = 7440 * hz,
		.life_tcp_closed = 10 * hz,
		.life_udp_new = 30 * hz,
		.life_udp = 300 * hz,
		.life_icmp = 60 * hz,
		.life_other = 600 * hz,
		.host_rate = 50000,
		.gateway_mac = { 0x02, 0x54, 0x57, 0x00, 0x00, 0x01 },
	};
}

/* About 1/64 of the memory in each family's table, within sane bounds. */
static uint32_t flows_from_memory(void)
{
	struct sysinfo info;
	uint64_t bytes, n = 16384;

	if (sysinfo(&info))
		return 65536;
	bytes = (uint64_t)info.totalram * info.mem_unit;
	while (n < 262144 && n * 2 * 64 * 192 <= bytes)
		n *= 2;
	return (uint32_t)n;
}

int datapath_fd(const struct datapath *dp, const char *map)
{
	return bpf_object__find_map_fd_by_name(dp->skel->obj, map);
}

int datapath_map_fd(struct datapath *dp, const char *name)
{
	return datapath_fd(dp, name);
}

int datapath_prog_fd(struct datapath *dp, const char *name)
{
	struct bpf_program *prog = bpf_object__find_program_by_name(dp->skel->obj, name);

	return prog ? program_fd(dp, prog) : -ENOENT;
}

static int sizes_set(struct towpath_bpf *skel, const struct datapath_options *opts)
{
	uint32_t flows = opts->max_flows ?: flows_from_memory();
	const struct {
		struct bpf_map *map;
		uint32_t n;
	} sizes[] = {
		{ skel->maps.tw_flow4, flows },
		{ skel->maps.tw_flow6, flows },
		{ skel->maps.tw_policy, opts->max_versions ?: 32768 },
		{ skel->maps.tw_classes, opts->max_classes ?: 524288 },
		{ skel->maps.tw_peers, opts->max_peers ?: 524288 },
		{ skel->maps.tw_ipcache_pages, opts->max_pages ?: 8192 },
		{ skel->maps.tw_ipcache6, (opts->max_prefixes6 ?: 262144) + PREFIXES6_SPARE },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int res = bpf_map__set_max_entries(sizes[i].map, sizes[i].n);

		if (res)
			return res;
	}
	return 0;
}

/* Maps that every load makes anew: scratch memory, constants, and the jump table. */
bool map_is_private(const struct bpf_map *map)
{
	const char *name = bpf_map__name(map);

	return bpf_map__is_internal(map) || !strcmp(name, "tw_jumps") ||
	       !strcmp(name, "tw_scratch");
}

void map_pin_path(const struct datapath *dp, const struct bpf_map *map, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3900s/maps/v%d/%s", dp->pin_dir, TW_ABI_VERSION,
		 bpf_map__name(map));
}

/* Takes over a pinned map of the same layout; its size stays as it is. */
static int map_reuse(const struct datapath *dp, struct bpf_map *map, char *err, size_t err_len)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	char path[PATH_MAX];
	int fd, res;

	map_pin_path(dp, map, path);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	res = bpf_map_get_info_by_fd(fd, &info, &len);
	if (!res && (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
		     info.value_size != bpf_map__value_size(map))) {
		datapath_message(err, err_len,
				 "%s holds another layout; run 'towpath uninstall' first", path);
		res = -EINVAL;
	}
	if (!res)
		res = bpf_map__reuse_fd(map, fd);
	close(fd);
	return res;
}

static int maps_reuse(struct datapath *dp, char *err, size_t err_len)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, dp->skel->obj)
	{
		int res = map_is_private(map) ? 0 : map_reuse(dp, map, err, err_len);

		if (res)
			return res;
	}
	return 0;
}

int maps_pin(struct datapath *dp)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, dp->skel->obj)
	{
		char path[PATH_MAX];

		if (map_is_private(map))
			continue;
		map_pin_path(dp, map, path);
		if (bpf_obj_pin(bpf_map__fd(map), path) && errno != EEXIST)
			return -errno;
	}
	return 0;
}

int datapath_jumps_fill(const struct towpath_bpf *skel)
{
	const struct {
		uint32_t slot;
		struct bpf_program *prog;
	} jumps[] = {
		{ TW_JUMP_NEW, skel->progs.tw_new },
		{ TW_JUMP_ODD, skel->progs.tw_odd },
		{ TW_JUMP_ICMP_ERROR, skel->progs.tw_icmp_error },
	};
	int map = bpf_map__fd(skel->maps.tw_jumps);

	for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		int prog = bpf_program__fd(jumps[i].prog);

		if (bpf_map_update_elem(map, &jumps[i].slot, &prog, BPF_ANY))
			return -errno;
	}
	return 0;
}

/*
 * A program array is emptied when its last file or pin goes, programs that use it or not. So
 * each load has its own, pinned before any link is switched to the load's programs, and the
 * old one goes when no link uses it any more: at no moment is a jump empty.
 */
static const char *const jump_pins[2] = { "jumps_a", "jumps_b" };

int jumps_pin(const struct datapath *dp, int fd)
{
	char path[PATH_MAX];
	int i;

	snprintf(path, sizeof(path), "%.3900s/%s", dp->pin_dir, jump_pins[0]);
	i = access(path, F_OK) ? 0 : 1;
	snprintf(path, sizeof(path), "%.3900s/%s", dp->pin_dir, jump_pins[i]);
	/* Both there: an agent died between switching links and clearing up. Links may use either. */
	if (i && !access(path, F_OK))
		snprintf(path, sizeof(path), "%.3900s/jumps_%d", dp->pin_dir, getpid());
	return bpf_obj_pin(fd, path) ? -errno : 0;
}

/* After the links were switched: every other jump table is unused. */
static void jumps_tidy(struct datapath *dp)
{
	struct bpf_map_info mine = {}, info;
	uint32_t len = sizeof(mine);
	struct dirent *entry;
	DIR *dir;

	if (bpf_map_get_info_by_fd(bpf_map__fd(dp->skel->maps.tw_jumps), &mine, &len))
		return;
	dir = opendir(dp->pin_dir);
	while (dir && (entry = readdir(dir))) {
		char path[PATH_MAX];
		int fd;

		if (strncmp(entry->d_name, "jumps_", 6))
			continue;
		snprintf(path, sizeof(path), "%.3800s/%.255s", dp->pin_dir, entry->d_name);
		fd = bpf_obj_get(path);
		len = sizeof(info);
		if (fd >= 0 && !bpf_map_get_info_by_fd(fd, &info, &len) && info.id != mine.id) {
			/* Who began before the links were switched may have his jump ahead. */
			datapath_grace(dp);
			unlink(path);
		}
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
}

int pin_folders_make(const struct datapath *dp)
{
	static const char *const names[] = { "", "/maps", "/links" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%.3900s%s", dp->pin_dir, names[i]);
		if (mkdir(path, 0700) && errno != EEXIST)
			return -errno;
	}
	snprintf(path, sizeof(path), "%.3900s/maps/v%d", dp->pin_dir, TW_ABI_VERSION);
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

/* All that the programs need when their links are switched, or new ones made. */
static int pins_make(struct datapath *dp, char *err, size_t err_len)
{
	int res = maps_pin(dp);

	if (!res && !dp->n_adopted) {
		programs_forget(dp);
		res = jumps_pin(dp, bpf_map__fd(dp->skel->maps.tw_jumps));
	}
	if (res)
		datapath_message(err, err_len, "cannot pin below %s: %s", dp->pin_dir,
				 strerror(-res));
	return res;
}

int datapath_switch(struct datapath *dp, struct datapath_migration *out, char *err, size_t err_len)
{
	struct datapath_migration result = {};
	int res;

	if (!dp->pin_dir[0])
		return 0;
	migrate_before_links(dp, &result);
	res = datapath_links_adopt(dp);
	if (res) {
		datapath_message(err, err_len, "cannot switch the links below %s: %s", dp->pin_dir,
				 strerror(-res));
		return res;
	}
	migrate_after_links(dp, &result);
	*out = result;
	if (dp->n_adopted)
		return 0;
	jumps_tidy(dp);
	res = programs_pin(dp);
	if (res)
		datapath_message(err, err_len, "cannot pin below %s: %s", dp->pin_dir,
				 strerror(-res));
	return res;
}

static int config_init(struct datapath *dp)
{
	struct tw_config *config = window_at(&dp->config, 0);
	struct tw_endpoint *outside = window_at(&dp->endpoints, 0);

	if (!config || !outside)
		return -ENOMEM;
	/* What uplinks open may fill half of a table, never all: no flood starves the node (I10). */
	outside->cap = bpf_map__max_entries(dp->skel->maps.tw_flow4) / 2;
	config->abi_version = TW_ABI_VERSION;
	config->drop_events = DROP_EVENTS_A_SECOND;
	datapath_heartbeat(dp);
	return 0;
}

static int log_quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN && getenv("TOWPATH_BPF_LOG") ? vfprintf(stderr, format, args)
								 : 0;
}

/* Does bpf_l4_csum_replace take BPF_F_IPV6? Found out by trying. */
static bool csum_ipv6_probe(void)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = 24 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K,
		  .dst_reg = BPF_REG_5,
		  .imm = BPF_F_PSEUDO_HDR | 1 << 7 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_l4_csum_replace },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	unsigned char frame[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = sizeof(frame));
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "tw_probe", "GPL", insns,
			       sizeof(insns) / sizeof(insns[0]), NULL);
	bool known;

	if (fd < 0)
		return false;
	known = !bpf_prog_test_run_opts(fd, &run) && !run.retval;
	close(fd);
	return known;
}

static int datapath_load(struct datapath *dp, const struct datapath_options *opts, char *err,
			 size_t err_len)
{
	int res;

	dp->skel = towpath_bpf__open();
	if (!dp->skel)
		return -errno;
	res = sizes_set(dp->skel, opts);
	dp->settings = opts->settings;
	if (!dp->settings.hz)
		datapath_settings_default(&dp->settings);
	dp->settings.csum_ipv6 = csum_ipv6_probe();
	memcpy((void *)&dp->skel->rodata->tw_settings, &dp->settings, sizeof(dp->settings));
	if (!res && dp->pin_dir[0]) {
		res = pin_folders_make(dp);
		if (res)
			datapath_message(err, err_len, "cannot make folders in %s: %s", dp->pin_dir,
					 strerror(-res));
		else
			res = maps_reuse(dp, err, err_len);
	}
	if (res)
		return res;
	if (dp->pin_dir[0])
		programs_adopt(dp);
	res = towpath_bpf__load(dp->skel);
	if (res) {
		datapath_message(err, err_len,
				 "the kernel refused the data path's programs: %s (set "
				 "TOWPATH_BPF_LOG=1 to see why)",
				 strerror(-res));
		return res;
	}
	if (!dp->n_adopted)
		res = datapath_jumps_fill(dp->skel);
	if (!res)
		res = datapath_tables_open(dp);
	if (!res)
		res = migrate_epochs(dp, err, err_len);
	if (!res)
		res = config_init(dp);
	return res;
}

int datapath_open(struct datapath **out, const struct datapath_options *opts, char *err,
		  size_t err_len)
{
	struct datapath *dp = calloc(1, sizeof(*dp));
	int res;

	if (!dp)
		return -ENOMEM;
	if (err && err_len)
		err[0] = '\0';
	libbpf_set_print(log_quiet);
	dp->clsact = opts->force_clsact;
	if (opts->pin_dir)
		snprintf(dp->pin_dir, sizeof(dp->pin_dir), "%s", opts->pin_dir);
	res = datapath_load(dp, opts, err, err_len);
	if (!res && dp->pin_dir[0])
		res = pins_make(dp, err, err_len);
	if (res) {
		if (err && err_len && !err[0])
			datapath_message(err, err_len, "cannot set up the data path: %s",
					 strerror(-res));
		datapath_close(dp);
		return res;
	}
	*out = dp;
	return 0;
}

void datapath_close(struct datapath *dp)
{
	if (!dp)
		return;
	ring_buffer__free(dp->ring);
	datapath_tables_close(dp);
	programs_close(dp);
	pins_close(dp);
	towpath_bpf__destroy(dp->skel);
	free(dp);
}

void datapath_rcu_wait(void)
{
	/* Waits for every running RCU reader; programs are readers (Documentation/RCU). */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		usleep(100000);
}

void datapath_grace(struct datapath *dp)
{
	datapath_rcu_wait();
}

static int syscall_run(struct datapath *dp, struct bpf_program *prog, void *ctx, uint32_t len)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = ctx, .ctx_size_in = len);
	int res = bpf_prog_test_run_opts(program_fd(dp, prog), &opts);

	return res ? -errno : 0;
}

/* Tells the programs that somebody collects, and gets their time. */
static void clock_read(struct datapath *dp, struct tw_clock *clock)
{
	syscall_run(dp, dp->skel->progs.tw_heartbeat, clock, sizeof(*clock));
}

void datapath_heartbeat(struct datapath *dp)
{
	struct tw_clock clock = {};

	clock_read(dp, &clock);
}

int datapath_heartbeat_age(struct datapath *dp, uint64_t *ms)
{
	const struct tw_config *config = window_at(&dp->config, 0);
	struct tw_clock clock = {};

	if (!config)
		return -ENOMEM;
	uint32_t last = __atomic_load_n(&config->heartbeat, __ATOMIC_RELAXED);
	int res = syscall_run(dp, dp->skel->progs.tw_heartbeat, &clock, sizeof(clock));

	if (res)
		return res;
	*ms = (uint64_t)((uint32_t)clock.jiffies - last) * 1000 / dp->settings.hz;
	return 0;
}

int datapath_collect(struct datapath *dp, struct tw_collect_args *args)
{
	int res = syscall_run(dp, dp->skel->progs.tw_collect, args, sizeof(*args));

	if (!res) {
		__atomic_store_n(&dp->live[0], args->live4, __ATOMIC_RELAXED);
		__atomic_store_n(&dp->live[1], args->live - args->live4, __ATOMIC_RELAXED);
	}
	return res;
}

/* An event is stamped with jiffies, the cheapest clock there is; here they become nanoseconds. */
static int event_sample(void *ctx, void *data, size_t len)
{
	struct event_sink *sink = ctx;
	struct tw_event ev;

	if (len < sizeof(ev))
		return 0;
	memcpy(&ev, data, sizeof(ev));
	ev.time = sink->now_ns - (sink->now.jiffies - ev.time) * sink->tick_ns;
	ev.idle = (uint32_t)((uint64_t)ev.idle * sink->tick_ns / 1000000);
	return sink->fn(sink->arg, &ev);
}

static int ring_open(struct datapath *dp)
{
	if (!dp->ring)
		dp->ring = ring_buffer__new(bpf_map__fd(dp->skel->maps.tw_events), event_sample,
					    &dp->sink, NULL);
	return dp->ring ? 0 : -errno;
}

int datapath_ring_add(struct datapath *dp, int fd)
{
	int res = ring_open(dp);

	return res ? res : ring_buffer__add(dp->ring, fd, event_sample, &dp->sink);
}

int datapath_events(struct datapath *dp, int (*fn)(void *arg, const struct tw_event *ev), void *arg)
{
	struct timespec now;
	int res = ring_open(dp);

	if (res)
		return res;
	dp->sink = (struct event_sink){ fn, arg, .tick_ns = 1000000000u / dp->settings.hz };
	clock_read(dp, &dp->sink.now);
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	dp->sink.now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	return ring_buffer__consume(dp->ring);
}

int datapath_percpu_sum(int fd, uint32_t index, uint64_t *sum, size_t words)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus * words, sizeof(*values));
	if (!values)
		return -ENOMEM;
	if (bpf_map_lookup_elem(fd, &index, values)) {
		int res = -errno;

		free(values);
		return res;
	}
	memset(sum, 0, words * sizeof(*sum));
	for (size_t i = 0; i < (size_t)cpus * words; i++)
		sum[i % words] += values[i];
	free(values);
	return 0;
}

int datapath_metric_sum(int fd, uint32_t index, struct tw_metric *out)
{
	uint64_t sum[2];
	int res = datapath_percpu_sum(fd, index, sum, 2);

	if (!res)
		*out = (struct tw_metric){ sum[0], sum[1] };
	return res;
}

int datapath_metric(struct datapath *dp, enum tw_reason reason, enum tw_hook hook,
		    struct tw_metric *out)
{
	return datapath_metric_sum(bpf_map__fd(dp->skel->maps.tw_metrics),
				   (uint32_t)reason * TW_HOOK_COUNT + hook, out);
}

int datapath_counter(struct datapath *dp, enum tw_counter counter, uint64_t *out)
{
	return datapath_percpu_sum(bpf_map__fd(dp->skel->maps.tw_counters), counter, out, 1);
}
