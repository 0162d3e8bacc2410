/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The syntax of names, as the API server checks it. Each returns NULL when the text is valid,
 * else what was expected: the end of a sentence that begins with "expected".
 */
#ifndef AGENT_OBJECT_NAMES_H
#define AGENT_OBJECT_NAMES_H

const char *name_check_dns_label(const char *text);	/* RFC 1123 label: a Namespace */
const char *name_check_dns_subdomain(const char *text); /* RFC 1123 subdomain: other objects */
const char *name_check_label_key(const char *text);
const char *name_check_label_value(const char *text);
const char *name_check_port(const char *text); /* IANA_SVC_NAME, RFC 6335 */

#endif
