/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Drops of the kernel itself in the flow log. The program is loaded by a worker thread once the
 * agent serves, because nothing depends on it; a kernel without it is told in the log, once.
 */
#include "kernel_drops.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "drops.h"
#include "log.h"

struct kernel_drops {
	struct agent *a;
	uv_work_t work;
	struct drops *drops; /* NULL: not loaded (yet, or on this kernel) */
	struct drops *loaded;
	char why[256];
	uint64_t seen; /* slots_changes() when the namespaces were told */
	bool working;
	bool closing;
};

static uint32_t netns_inum(const char *path)
{
	struct stat st;

	return *path && !stat(path, &st) ? (uint32_t)st.st_ino : 0;
}

static void load_work(uv_work_t *work)
{
	struct kernel_drops *k = work->data;

	if (drops_open(&k->loaded, k->a->dp, netns_inum("/proc/self/ns/net"), k->why,
		       sizeof(k->why)))
		k->loaded = NULL;
}

static void load_done(uv_work_t *work, int status)
{
	struct kernel_drops *k = work->data;

	k->working = false;
	if (k->closing) {
		drops_close(k->loaded);
		free(k);
		return;
	}
	if (k->loaded && drops_start(k->loaded, k->a->dp)) {
		drops_close(k->loaded);
		k->loaded = NULL;
	}
	k->drops = k->loaded;
	if (!k->drops)
		log_info("drops of the kernel itself are not in the flow log: %s", k->why);
	memory_release();
	kernel_drops_sync(k);
}

int kernel_drops_new(struct kernel_drops **out, struct agent *a)
{
	struct kernel_drops *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->a = a;
	k->work.data = k;
	k->seen = UINT64_MAX;
	k->working = !uv_queue_work(&a->loop, &k->work, load_work, load_done);
	*out = k;
	return 0;
}

void kernel_drops_free(struct kernel_drops *k)
{
	if (!k)
		return;
	k->closing = true;
	if (k->working)
		return; /* load_done() goes on */
	drops_close(k->drops);
	free(k);
}

void kernel_drops_sync(struct kernel_drops *k)
{
	const struct slots *slots = k ? k->a->slots : NULL;
	const struct endpoint *ep;
	size_t n = 0;

	if (!k || !k->drops || k->seen == slots_changes(slots))
		return;
	uint32_t *inum = calloc(slots_count(slots) + 1, sizeof(*inum));
	for (uint32_t slot = 1; inum && (ep = slots_next(slots, slot)); slot = ep->slot + 1) {
		/* A namespace whose path has gone counts no more; its port still does. */
		uint32_t found = ep->part ? 0 : netns_inum(ep->sandbox);

		if (found)
			inum[n++] = found;
	}
	if (inum && !drops_netns_set(k->drops, inum, n))
		k->seen = slots_changes(slots);
	free(inum);
}

bool kernel_drops_told(const struct kernel_drops *k)
{
	return k && k->drops;
}

void kernel_drops_json(struct kernel_drops *k, json_t *list)
{
	struct tw_metric m;

	for (unsigned int reason = 0; k && k->drops && reason < TW_KERNEL_REASONS; reason++) {
		if (drops_count(k->drops, reason, &m) || !m.packets)
			continue;
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:I}", "reason",
						      tw_kernel_reason_name(reason), "text",
						      "dropped by the kernel's own stack", "hook",
						      tw_hook_name(TW_HOOK_KERNEL), "packets",
						      (json_int_t)m.packets, "bytes",
						      (json_int_t)m.bytes));
	}
}
