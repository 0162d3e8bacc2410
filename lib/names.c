/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The names of abi.h's enums, as people see them. */
#include "datapath_internal.h"

#define REASON_NAME(sym, name, text) [TW_REASON_##sym] = name,
#define REASON_TEXT(sym, name, text) [TW_REASON_##sym] = text,

static const char *const reason_names[] = { TW_REASONS(REASON_NAME) };
static const char *const reason_texts[] = { TW_REASONS(REASON_TEXT) };
static const char *const verdict_names[] = {
	[TW_VERDICT_ALLOW] = "allow",
	[TW_VERDICT_DENY] = "deny",
	[TW_VERDICT_REJECT] = "reject",
	[TW_VERDICT_REDIRECT] = "redirect",
};
static const char *const hook_names[] = {
	[TW_HOOK_FROM_CONTAINER] = "from_container",
	[TW_HOOK_TO_CONTAINER] = "to_container",
	[TW_HOOK_FROM_UPLINK] = "from_uplink",
};

_Static_assert(sizeof(hook_names) / sizeof(*hook_names) == TW_HOOK_COUNT, "a name for each hook");

const char *tw_reason_name(unsigned int reason)
{
	return reason < TW_REASON_COUNT ? reason_names[reason] : "unknown";
}

const char *tw_reason_text(unsigned int reason)
{
	return reason < TW_REASON_COUNT ? reason_texts[reason]
					: "a reason that this version does not know";
}

const char *tw_verdict_name(unsigned int verdict)
{
	return verdict < sizeof(verdict_names) / sizeof(*verdict_names) ? verdict_names[verdict]
									: "unknown";
}

const char *tw_hook_name(unsigned int hook)
{
	if (hook == TW_HOOK_KERNEL)
		return "kernel";
	return hook < TW_HOOK_COUNT ? hook_names[hook] : "unknown";
}

/* A fact of the running kernel, the same for everybody in the process. */
static char *const *kernel_reasons;

void tw_kernel_reasons_set(char *const names[TW_KERNEL_REASONS])
{
	kernel_reasons = names;
}

const char *tw_kernel_reason_name(unsigned int reason)
{
	return kernel_reasons && reason < TW_KERNEL_REASONS && kernel_reasons[reason]
		       ? kernel_reasons[reason]
		       : "unknown";
}
