/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Tells the service manager that the agent serves, so that container runtimes, which are ordered
 * after it, start when it does. The protocol is that of sd_notify(3).
 */
#ifndef AGENT_NOTIFY_H
#define AGENT_NOTIFY_H

/* One datagram to $NOTIFY_SOCKET; nothing without one. Failure is logged: it ends no agent. */
void notify_ready(void);

#endif
