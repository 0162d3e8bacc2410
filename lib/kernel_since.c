/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "kernel_since.h"

#include <linux/bpf.h>
#include <stddef.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* Helpers are numbered in the order in which they were added: the last one of each release. */
static const struct {
	uint16_t since;
	uint16_t last;
} helpers[] = {
	{ KERNEL(3, 19), 3 },	{ KERNEL(4, 1), 11 },	{ KERNEL(4, 2), 16 },
	{ KERNEL(4, 3), 22 },	{ KERNEL(4, 4), 25 },	{ KERNEL(4, 5), 26 },
	{ KERNEL(4, 6), 30 },	{ KERNEL(4, 8), 36 },	{ KERNEL(4, 9), 41 },
	{ KERNEL(4, 10), 44 },	{ KERNEL(4, 11), 45 },	{ KERNEL(4, 12), 47 },
	{ KERNEL(4, 13), 50 },	{ KERNEL(4, 14), 53 },	{ KERNEL(4, 15), 57 },
	{ KERNEL(4, 16), 59 },	{ KERNEL(4, 17), 64 },	{ KERNEL(4, 18), 80 },
	{ KERNEL(4, 19), 83 },	{ KERNEL(4, 20), 90 },	{ KERNEL(5, 0), 92 },
	{ KERNEL(5, 1), 98 },	{ KERNEL(5, 2), 108 },	{ KERNEL(5, 3), 109 },
	{ KERNEL(5, 4), 110 },	{ KERNEL(5, 5), 115 },	{ KERNEL(5, 6), 118 },
	{ KERNEL(5, 7), 124 },	{ KERNEL(5, 8), 135 },	{ KERNEL(5, 9), 141 },
	{ KERNEL(5, 10), 155 }, { KERNEL(5, 11), 162 }, { KERNEL(5, 12), 163 },
	{ KERNEL(5, 13), 165 }, { KERNEL(5, 14), 168 }, { KERNEL(5, 15), 175 },
	{ KERNEL(5, 16), 179 }, { KERNEL(5, 17), 185 }, { KERNEL(5, 18), 193 },
	{ KERNEL(5, 19), 203 }, { KERNEL(6, 0), 207 },	{ KERNEL(6, 1), 209 },
	{ KERNEL(6, 2), 211 },
};

static const uint16_t prog_types[] = {
	[BPF_PROG_TYPE_SOCKET_FILTER] = KERNEL(3, 19),
	[BPF_PROG_TYPE_KPROBE] = KERNEL(4, 1),
	[BPF_PROG_TYPE_SCHED_CLS] = KERNEL(4, 1),
	[BPF_PROG_TYPE_SCHED_ACT] = KERNEL(4, 1),
	[BPF_PROG_TYPE_TRACEPOINT] = KERNEL(4, 7),
	[BPF_PROG_TYPE_XDP] = KERNEL(4, 8),
	[BPF_PROG_TYPE_PERF_EVENT] = KERNEL(4, 9),
	[BPF_PROG_TYPE_CGROUP_SKB] = KERNEL(4, 10),
	[BPF_PROG_TYPE_CGROUP_SOCK] = KERNEL(4, 10),
	[BPF_PROG_TYPE_LWT_IN] = KERNEL(4, 10),
	[BPF_PROG_TYPE_LWT_OUT] = KERNEL(4, 10),
	[BPF_PROG_TYPE_LWT_XMIT] = KERNEL(4, 10),
	[BPF_PROG_TYPE_SOCK_OPS] = KERNEL(4, 13),
	[BPF_PROG_TYPE_SK_SKB] = KERNEL(4, 14),
	[BPF_PROG_TYPE_CGROUP_DEVICE] = KERNEL(4, 15),
	[BPF_PROG_TYPE_SK_MSG] = KERNEL(4, 17),
	[BPF_PROG_TYPE_RAW_TRACEPOINT] = KERNEL(4, 17),
	[BPF_PROG_TYPE_CGROUP_SOCK_ADDR] = KERNEL(4, 17),
	[BPF_PROG_TYPE_LWT_SEG6LOCAL] = KERNEL(4, 18),
	[BPF_PROG_TYPE_LIRC_MODE2] = KERNEL(4, 18),
	[BPF_PROG_TYPE_SK_REUSEPORT] = KERNEL(4, 19),
	[BPF_PROG_TYPE_FLOW_DISSECTOR] = KERNEL(4, 20),
	[BPF_PROG_TYPE_CGROUP_SYSCTL] = KERNEL(5, 2),
	[BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE] = KERNEL(5, 2),
	[BPF_PROG_TYPE_CGROUP_SOCKOPT] = KERNEL(5, 3),
	[BPF_PROG_TYPE_TRACING] = KERNEL(5, 5),
	[BPF_PROG_TYPE_STRUCT_OPS] = KERNEL(5, 6),
	[BPF_PROG_TYPE_EXT] = KERNEL(5, 6),
	[BPF_PROG_TYPE_LSM] = KERNEL(5, 7),
	[BPF_PROG_TYPE_SK_LOOKUP] = KERNEL(5, 9),
	[BPF_PROG_TYPE_SYSCALL] = KERNEL(5, 14),
	[BPF_PROG_TYPE_NETFILTER] = KERNEL(6, 4),
};

static const uint16_t map_types[] = {
	[BPF_MAP_TYPE_HASH] = KERNEL(3, 19),
	[BPF_MAP_TYPE_ARRAY] = KERNEL(3, 19),
	[BPF_MAP_TYPE_PROG_ARRAY] = KERNEL(4, 2),
	[BPF_MAP_TYPE_PERF_EVENT_ARRAY] = KERNEL(4, 3),
	[BPF_MAP_TYPE_PERCPU_HASH] = KERNEL(4, 6),
	[BPF_MAP_TYPE_PERCPU_ARRAY] = KERNEL(4, 6),
	[BPF_MAP_TYPE_STACK_TRACE] = KERNEL(4, 6),
	[BPF_MAP_TYPE_CGROUP_ARRAY] = KERNEL(4, 8),
	[BPF_MAP_TYPE_LRU_HASH] = KERNEL(4, 10),
	[BPF_MAP_TYPE_LRU_PERCPU_HASH] = KERNEL(4, 10),
	[BPF_MAP_TYPE_LPM_TRIE] = KERNEL(4, 11),
	[BPF_MAP_TYPE_ARRAY_OF_MAPS] = KERNEL(4, 12),
	[BPF_MAP_TYPE_HASH_OF_MAPS] = KERNEL(4, 12),
	[BPF_MAP_TYPE_DEVMAP] = KERNEL(4, 14),
	[BPF_MAP_TYPE_SOCKMAP] = KERNEL(4, 14),
	[BPF_MAP_TYPE_CPUMAP] = KERNEL(4, 15),
	[BPF_MAP_TYPE_XSKMAP] = KERNEL(4, 18),
	[BPF_MAP_TYPE_SOCKHASH] = KERNEL(4, 18),
	[BPF_MAP_TYPE_CGROUP_STORAGE] = KERNEL(4, 19),
	[BPF_MAP_TYPE_REUSEPORT_SOCKARRAY] = KERNEL(4, 19),
	[BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE] = KERNEL(4, 20),
	[BPF_MAP_TYPE_QUEUE] = KERNEL(4, 20),
	[BPF_MAP_TYPE_STACK] = KERNEL(4, 20),
	[BPF_MAP_TYPE_SK_STORAGE] = KERNEL(5, 2),
	[BPF_MAP_TYPE_DEVMAP_HASH] = KERNEL(5, 4),
	[BPF_MAP_TYPE_STRUCT_OPS] = KERNEL(5, 6),
	[BPF_MAP_TYPE_RINGBUF] = KERNEL(5, 8),
	[BPF_MAP_TYPE_INODE_STORAGE] = KERNEL(5, 10),
	[BPF_MAP_TYPE_TASK_STORAGE] = KERNEL(5, 11),
	[BPF_MAP_TYPE_BLOOM_FILTER] = KERNEL(5, 16),
	[BPF_MAP_TYPE_USER_RINGBUF] = KERNEL(6, 1),
	[BPF_MAP_TYPE_CGRP_STORAGE] = KERNEL(6, 2),
	[BPF_MAP_TYPE_ARENA] = KERNEL(6, 9),
	[BPF_MAP_TYPE_ARENA + 1 /* insn_array */] = KERNEL(6, 19),
};

/* Of kernels that were told the type when the program was loaded or attached. */
static const uint16_t attach_types[] = {
	[BPF_CGROUP_INET_INGRESS] = KERNEL(4, 10),
	[BPF_CGROUP_INET_EGRESS] = KERNEL(4, 10),
	[BPF_CGROUP_INET_SOCK_CREATE] = KERNEL(4, 10),
	[BPF_CGROUP_SOCK_OPS] = KERNEL(4, 13),
	[BPF_SK_SKB_STREAM_PARSER] = KERNEL(4, 14),
	[BPF_SK_SKB_STREAM_VERDICT] = KERNEL(4, 14),
	[BPF_CGROUP_DEVICE] = KERNEL(4, 15),
	[BPF_SK_MSG_VERDICT] = KERNEL(4, 17),
	[BPF_CGROUP_INET4_BIND] = KERNEL(4, 17),
	[BPF_CGROUP_INET6_BIND] = KERNEL(4, 17),
	[BPF_CGROUP_INET4_CONNECT] = KERNEL(4, 17),
	[BPF_CGROUP_INET6_CONNECT] = KERNEL(4, 17),
	[BPF_CGROUP_INET4_POST_BIND] = KERNEL(4, 17),
	[BPF_CGROUP_INET6_POST_BIND] = KERNEL(4, 17),
	[BPF_CGROUP_UDP4_SENDMSG] = KERNEL(4, 18),
	[BPF_CGROUP_UDP6_SENDMSG] = KERNEL(4, 18),
	[BPF_LIRC_MODE2] = KERNEL(4, 18),
	[BPF_FLOW_DISSECTOR] = KERNEL(4, 20),
	[BPF_CGROUP_SYSCTL] = KERNEL(5, 2),
	[BPF_CGROUP_UDP4_RECVMSG] = KERNEL(5, 2),
	[BPF_CGROUP_UDP6_RECVMSG] = KERNEL(5, 2),
	[BPF_CGROUP_GETSOCKOPT] = KERNEL(5, 3),
	[BPF_CGROUP_SETSOCKOPT] = KERNEL(5, 3),
	[BPF_TRACE_RAW_TP] = KERNEL(5, 5),
	[BPF_TRACE_FENTRY] = KERNEL(5, 5),
	[BPF_TRACE_FEXIT] = KERNEL(5, 5),
	[BPF_MODIFY_RETURN] = KERNEL(5, 7),
	[BPF_LSM_MAC] = KERNEL(5, 7),
	[BPF_TRACE_ITER] = KERNEL(5, 8),
	[BPF_CGROUP_INET4_GETPEERNAME] = KERNEL(5, 8),
	[BPF_CGROUP_INET6_GETPEERNAME] = KERNEL(5, 8),
	[BPF_CGROUP_INET4_GETSOCKNAME] = KERNEL(5, 8),
	[BPF_CGROUP_INET6_GETSOCKNAME] = KERNEL(5, 8),
	[BPF_XDP_DEVMAP] = KERNEL(5, 8),
	[BPF_CGROUP_INET_SOCK_RELEASE] = KERNEL(5, 9),
	[BPF_XDP_CPUMAP] = KERNEL(5, 9),
	[BPF_SK_LOOKUP] = KERNEL(5, 9),
	[BPF_XDP] = KERNEL(5, 9),
	[BPF_SK_SKB_VERDICT] = KERNEL(5, 13),
	[BPF_SK_REUSEPORT_SELECT] = KERNEL(5, 14),
	[BPF_SK_REUSEPORT_SELECT_OR_MIGRATE] = KERNEL(5, 14),
	[BPF_PERF_EVENT] = KERNEL(5, 15),
	[BPF_TRACE_KPROBE_MULTI] = KERNEL(5, 18),
	[BPF_LSM_CGROUP] = KERNEL(6, 0),
	[BPF_TCX_INGRESS] = KERNEL(6, 6),
	[BPF_TCX_EGRESS] = KERNEL(6, 6),
	[BPF_NETKIT_PRIMARY] = KERNEL(6, 7),
	[BPF_NETKIT_PEER] = KERNEL(6, 7),
	[BPF_TRACE_KPROBE_SESSION] = KERNEL(6, 10),
	[BPF_STRUCT_OPS] = KERNEL(5, 6),
	[BPF_NETFILTER] = KERNEL(6, 4),
	[BPF_TRACE_UPROBE_MULTI] = KERNEL(6, 6),
	[BPF_CGROUP_UNIX_CONNECT] = KERNEL(6, 7),
	[BPF_CGROUP_UNIX_SENDMSG] = KERNEL(6, 7),
	[BPF_CGROUP_UNIX_RECVMSG] = KERNEL(6, 7),
	[BPF_CGROUP_UNIX_GETPEERNAME] = KERNEL(6, 7),
	[BPF_CGROUP_UNIX_GETSOCKNAME] = KERNEL(6, 7),
	[BPF_TRACE_KPROBE_SESSION + 1 /* uprobe_session */] = KERNEL(6, 13),
};

/* Those of networking and of general use; names with a blank between. */
static const struct {
	uint16_t since;
	const char *names;
} kfuncs[] = {
	{ KERNEL(5, 18), "bpf_ct_release bpf_skb_ct_lookup bpf_xdp_ct_lookup" },
	{ KERNEL(6, 0), "bpf_ct_change_status bpf_ct_change_timeout bpf_ct_insert_entry "
			"bpf_ct_set_status bpf_ct_set_timeout bpf_skb_ct_alloc bpf_xdp_ct_alloc" },
	{ KERNEL(6, 1), "bpf_ct_set_nat_info bpf_key_put bpf_lookup_system_key bpf_lookup_user_key "
			"bpf_verify_pkcs7_signature cgroup_rstat_flush cgroup_rstat_updated "
			"crash_kexec" },
	{ KERNEL(6, 2), "bpf_cast_to_kern_ctx bpf_cgroup_acquire bpf_cgroup_ancestor "
			"bpf_cgroup_release bpf_list_pop_back bpf_list_pop_front bpf_obj_drop_impl "
			"bpf_obj_new_impl bpf_rcu_read_lock bpf_rcu_read_unlock bpf_rdonly_cast "
			"bpf_skb_get_xfrm_info bpf_skb_set_xfrm_info bpf_task_acquire "
			"bpf_task_from_pid bpf_task_release" },
	{ KERNEL(6, 3),
	  "bpf_cpumask_acquire bpf_cpumask_and bpf_cpumask_clear bpf_cpumask_clear_cpu "
	  "bpf_cpumask_copy bpf_cpumask_create bpf_cpumask_empty bpf_cpumask_equal "
	  "bpf_cpumask_first bpf_cpumask_first_zero bpf_cpumask_full "
	  "bpf_cpumask_intersects bpf_cpumask_or bpf_cpumask_release "
	  "bpf_cpumask_set_cpu bpf_cpumask_setall bpf_cpumask_subset "
	  "bpf_cpumask_test_and_clear_cpu bpf_cpumask_test_and_set_cpu "
	  "bpf_cpumask_test_cpu bpf_cpumask_xor bpf_rbtree_first bpf_rbtree_remove "
	  "bpf_xdp_metadata_rx_hash bpf_xdp_metadata_rx_timestamp" },
	{ KERNEL(6, 4),
	  "bpf_cgroup_from_id bpf_dynptr_from_skb bpf_dynptr_from_xdp bpf_dynptr_slice "
	  "bpf_dynptr_slice_rdwr bpf_iter_num_destroy bpf_iter_num_new "
	  "bpf_iter_num_next bpf_list_push_back_impl bpf_list_push_front_impl "
	  "bpf_rbtree_add_impl bpf_refcount_acquire_impl bpf_skb_get_fou_encap "
	  "bpf_skb_set_fou_encap" },
	{ KERNEL(6, 5),
	  "bpf_cpumask_any_and_distribute bpf_cpumask_any_distribute "
	  "bpf_cpumask_first_and bpf_dynptr_adjust bpf_dynptr_clone bpf_dynptr_is_null "
	  "bpf_dynptr_is_rdonly bpf_dynptr_size bpf_sock_destroy bpf_task_under_cgroup" },
	{ KERNEL(6, 6), "bpf_map_sum_elem_count" },
	{ KERNEL(6, 7),
	  "bpf_iter_css_destroy bpf_iter_css_new bpf_iter_css_next "
	  "bpf_iter_css_task_destroy bpf_iter_css_task_new bpf_iter_css_task_next "
	  "bpf_iter_task_destroy bpf_iter_task_new bpf_iter_task_next "
	  "bpf_iter_task_vma_destroy bpf_iter_task_vma_new bpf_iter_task_vma_next "
	  "bpf_percpu_obj_drop_impl bpf_percpu_obj_new_impl bpf_sock_addr_set_sun_path "
	  "bpf_throw" },
	{ KERNEL(6, 8), "bpf_cpumask_weight bpf_get_file_xattr bpf_get_fsverity_digest "
			"bpf_task_get_cgroup1 bpf_xdp_get_xfrm_state bpf_xdp_metadata_rx_vlan_tag "
			"bpf_xdp_xfrm_state_release" },
	{ KERNEL(6, 9), "bpf_arena_alloc_pages bpf_arena_free_pages" },
	{ KERNEL(6, 10),
	  "bpf_crypto_ctx_acquire bpf_crypto_ctx_create bpf_crypto_ctx_release "
	  "bpf_crypto_decrypt bpf_crypto_encrypt bpf_preempt_disable bpf_preempt_enable "
	  "bpf_session_cookie bpf_session_is_return bpf_wq_init "
	  "bpf_wq_set_callback_impl bpf_wq_start" },
	{ KERNEL(6, 11), "bpf_iter_bits_destroy bpf_iter_bits_new bpf_iter_bits_next "
			 "bpf_sk_assign_tcp_reqsk bpf_xdp_flow_lookup" },
	{ KERNEL(6, 12), "bpf_copy_from_user_str bpf_get_dentry_xattr bpf_get_task_exe_file "
			 "bpf_path_d_path bpf_put_file" },
	{ KERNEL(6, 13), "bpf_get_kmem_cache bpf_iter_kmem_cache_destroy bpf_iter_kmem_cache_new "
			 "bpf_iter_kmem_cache_next bpf_send_signal_task bpf_task_from_vpid" },
	{ KERNEL(6, 14), "bpf_local_irq_restore bpf_local_irq_save" },
	{ KERNEL(6, 15), "bpf_copy_from_user_task_str bpf_cpumask_populate bpf_dynptr_copy "
			 "bpf_remove_dentry_xattr bpf_res_spin_lock bpf_res_spin_lock_irqsave "
			 "bpf_res_spin_unlock bpf_res_spin_unlock_irqrestore bpf_set_dentry_xattr "
			 "bpf_sock_ops_enable_tx_tstamp" },
	{ KERNEL(6, 16),
	  "__bpf_trap bpf_copy_from_user_dynptr bpf_copy_from_user_str_dynptr "
	  "bpf_copy_from_user_task_dynptr bpf_copy_from_user_task_str_dynptr "
	  "bpf_iter_dmabuf_destroy bpf_iter_dmabuf_new bpf_iter_dmabuf_next "
	  "bpf_kfree_skb bpf_list_back bpf_list_front bpf_probe_read_kernel_dynptr "
	  "bpf_probe_read_kernel_str_dynptr bpf_probe_read_user_dynptr "
	  "bpf_probe_read_user_str_dynptr bpf_qdisc_bstats_update "
	  "bpf_qdisc_init_prologue bpf_qdisc_reset_destroy_epilogue bpf_qdisc_skb_drop "
	  "bpf_qdisc_watchdog_schedule bpf_rbtree_left bpf_rbtree_right bpf_rbtree_root "
	  "bpf_skb_get_hash css_rstat_flush css_rstat_updated" },
	{ KERNEL(6, 17),
	  "bpf_arena_reserve_pages bpf_cgroup_read_xattr bpf_dynptr_memset bpf_strchr "
	  "bpf_strchrnul bpf_strcmp bpf_strcspn bpf_stream_vprintk_impl bpf_strlen "
	  "bpf_strnchr bpf_strnstr bpf_strrchr bpf_strspn bpf_strstr" },
	{ KERNEL(6, 18),
	  "bpf_dynptr_from_skb_meta bpf_strcasecmp bpf_task_work_schedule_resume_impl "
	  "bpf_task_work_schedule_signal_impl bpf_xdp_pull_data" },
	{ KERNEL(6, 19),
	  "bpf_dynptr_file_discard bpf_dynptr_from_file bpf_strcasestr bpf_strncasestr" },
};

uint16_t kernel_since_helper(uint32_t id)
{
	for (size_t i = 0; id && i < COUNT(helpers); i++)
		if (id <= helpers[i].last)
			return helpers[i].since;
	return 0;
}

uint16_t kernel_since_prog_type(uint32_t type)
{
	return type < COUNT(prog_types) ? prog_types[type] : 0;
}

uint16_t kernel_since_map_type(uint32_t type)
{
	return type < COUNT(map_types) ? map_types[type] : 0;
}

uint16_t kernel_since_attach_type(uint32_t type)
{
	return type < COUNT(attach_types) ? attach_types[type] : 0;
}

uint16_t kernel_since_kfunc(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; len && i < COUNT(kfuncs); i++)
		for (const char *p = kfuncs[i].names; p; p = strchr(p, ' ')) {
			p += *p == ' ';
			if (!strncmp(p, name, len) && (!p[len] || p[len] == ' '))
				return kfuncs[i].since;
		}
	return 0;
}

const char *kernel_helper_name(uint32_t id)
{
#define HELPER_NAME(name, number, ...) [number] = "bpf_" #name,
	static const char *const names[] = { ___BPF_FUNC_MAPPER(HELPER_NAME) };

	return id && id < COUNT(names) && names[id] ? names[id] : NULL;
}
