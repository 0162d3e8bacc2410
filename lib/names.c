/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The names of abi.h's enums, as people see them. */
#include "datapath.h"

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
	return hook < TW_HOOK_COUNT ? hook_names[hook] : "unknown";
}
