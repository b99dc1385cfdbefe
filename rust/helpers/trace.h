/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM anon_rmap

#if !defined(ANON_RMAP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define ANON_RMAP_TRACE_H

#include <linux/tracepoint.h>

/* What was done to a page, and from which source. */
TRACE_EVENT(anon_rmap_action,
	TP_PROTO(unsigned long pfn, u64 index, const char *action, const char *source),
	TP_ARGS(pfn, index, action, source),
	TP_STRUCT__entry(
		__field(unsigned long, pfn)
		__field(u64, index)
		__string(action, action)
		__string(source, source)
	),
	TP_fast_assign(
		__entry->pfn = pfn;
		__entry->index = index;
		__assign_str(action);
		__assign_str(source);
	),
	TP_printk("pfn=%#lx index=%llu action=%s source=%s", __entry->pfn, __entry->index,
		  __get_str(action), __get_str(source))
);

/* A frame that was out of use is used again, and by which source. */
TRACE_EVENT(anon_rmap_release,
	TP_PROTO(unsigned long pfn, const char *source),
	TP_ARGS(pfn, source),
	TP_STRUCT__entry(
		__field(unsigned long, pfn)
		__string(source, source)
	),
	TP_fast_assign(
		__entry->pfn = pfn;
		__assign_str(source);
	),
	TP_printk("pfn=%#lx action=release source=%s", __entry->pfn, __get_str(source))
);

/* A process that held a page which has failed, and the signal that it gets at once. */
TRACE_EVENT(anon_rmap_hit,
	TP_PROTO(unsigned long pfn, pid_t pid, unsigned long address, pid_t tid, const char *signal),
	TP_ARGS(pfn, pid, address, tid, signal),
	TP_STRUCT__entry(
		__field(unsigned long, pfn)
		__field(pid_t, pid)
		__field(unsigned long, address)
		__field(pid_t, tid)
		__string(signal, signal)
	),
	TP_fast_assign(
		__entry->pfn = pfn;
		__entry->pid = pid;
		__entry->address = address;
		__entry->tid = tid;
		__assign_str(signal);
	),
	TP_printk("pfn=%#lx pid=%d address=%#lx tid=%d signal=%s", __entry->pfn, __entry->pid,
		  __entry->address, __entry->tid, __get_str(signal))
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
