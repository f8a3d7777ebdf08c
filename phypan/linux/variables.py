"""Types of the kernel's variables. BTF has those of per-CPU variables only.

Each line is the variable's declaration in the kernel, without storage class and const. `[*]` is an
array as long as its symbol has room for, `[NAME]` one as long as an enumerator says. Where a
declaration has changed, the newest comes first, and the first whose type the kernel knows is taken.
They are what drgn's helpers and phypan's analyses use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

_DECLARATIONS = """
# init/
struct task_struct init_task
char linux_banner[*]
char *saved_command_line
char boot_command_line[*]
enum system_states system_state
struct nsproxy init_nsproxy
# kernel/
struct pid_namespace init_pid_ns
struct uts_namespace init_uts_ns
struct ipc_namespace init_ipc_ns
struct user_namespace init_user_ns
struct time_namespace init_time_ns
struct cred init_cred
struct user_struct root_user
struct hlist_head uidhash_table[*]
struct hlist_head *pid_hash
unsigned int pidhash_shift
struct list_head modules
struct mod_tree_root mod_tree
struct kobj_type module_ktype
struct taint_flag taint_flags[*]
unsigned long tainted_mask
char *task_state_array[*]
int nr_threads
unsigned long total_forks
atomic_t panic_cpu
int panic_on_oops
int crashing_cpu
int oops_in_progress
int die_counter
int die_owner
note_buf_t *crash_notes
struct resource iomem_resource
struct resource ioport_resource
unsigned int nr_cpu_ids
int nr_cpu_ids
struct cpumask __cpu_online_mask
struct cpumask __cpu_possible_mask
struct cpumask __cpu_present_mask
struct cpumask __cpu_active_mask
struct cpumask *cpu_online_mask
struct cpumask *cpu_possible_mask
struct cpumask *cpu_present_mask
unsigned long __per_cpu_offset[*]
struct workqueue_struct *system_wq
struct list_head workqueues
struct softirq_action softirq_vec[NR_SOFTIRQS]
struct cgroup_root cgrp_dfl_root
struct css_set init_css_set
struct idr btf_idr
struct idr prog_idr
struct idr map_idr
struct idr link_idr
struct list_head btf_modules
struct btf *btf_vmlinux
struct rcu_state rcu_state
# kernel/irq/
struct maple_tree sparse_irqs
struct radix_tree_root irq_desc_tree
struct irq_desc irq_desc[*]
int nr_irqs
unsigned int total_nr_irqs
# kernel/printk/
struct printk_ringbuffer *prb
struct printk_ringbuffer printk_rb_static
char *log_buf
u32 log_buf_len
u32 log_first_idx
u32 log_next_idx
u64 log_first_seq
u64 log_next_seq
struct hlist_head console_list
struct console *console_drivers
# kernel/sched/
struct task_group root_task_group
unsigned long avenrun[3]
atomic_long_t calc_load_tasks
struct rt_bandwidth def_rt_bandwidth
# kernel/time/
u64 jiffies_64
unsigned long jiffies
struct hrtimer_cpu_base hrtimer_bases
struct timekeeper timekeeper
# kernel/locking/ and hung tasks
unsigned long sysctl_hung_task_timeout_secs
# mm/
struct mm_struct init_mm
struct pglist_data contig_page_data
struct pglist_data *node_data[*]
nodemask_t node_states[NR_NODE_STATES]
unsigned int nr_node_ids
int nr_node_ids
struct page *mem_map
struct mem_section **mem_section
struct memblock memblock
unsigned long max_low_pfn
unsigned long max_pfn
unsigned long max_mapnr
unsigned long min_low_pfn
void *high_memory
struct page *vmemmap
unsigned long __highest_present_section_nr
atomic_long_t _totalram_pages
unsigned long totalram_pages
unsigned long totalcma_pages
unsigned long totalreserve_pages
atomic_long_t vm_node_stat[NR_VM_NODE_STAT_ITEMS]
atomic_long_t vm_zone_stat[NR_VM_ZONE_STAT_ITEMS]
atomic_long_t vm_numa_event[NR_VM_NUMA_EVENT_ITEMS]
atomic_long_t vm_stat[*]
struct percpu_counter vm_committed_as
unsigned long sysctl_overcommit_kbytes
int sysctl_overcommit_ratio
int sysctl_overcommit_memory
long total_swap_pages
atomic_long_t nr_swap_pages
unsigned int nr_swapfiles
struct swap_info_struct *swap_info[*]
struct address_space *swapper_spaces[*]
unsigned int nr_swapper_spaces[*]
struct plist_head swap_active_head
struct list_head slab_caches
struct kset *slab_kset
struct kmem_cache *task_struct_cachep
struct list_head vmap_area_list
struct rb_root vmap_area_root
struct vmap_node *vmap_nodes
struct vmap_node single
unsigned int vmap_zone_size
unsigned int nr_vmap_nodes
struct hstate hstates[*]
int hugetlb_max_hstate
unsigned int hugetlb_max_hstate
struct trace_print_flags gfpflag_names[*]
struct list_head percpu_counters
# fs/
struct fs_struct init_fs
struct super_block *blockdev_superblock
struct list_head super_blocks
struct char_device_struct *chrdevs[255]
struct kobj_map *cdev_map
struct file_system_type *file_systems
struct hlist_head *mount_hashtable
struct files_stat_struct files_stat
struct percpu_counter nr_files
struct kernfs_node *sysfs_root_kn
# block/ and drivers/
struct class block_class
struct blk_major_name *major_names[255]
struct kset *bus_kset
struct kset *class_kset
struct list_head pci_root_buses
struct bus_type pci_bus_type
int ipc_mni_shift
# net/
struct net init_net
struct list_head net_namespace_list
struct neigh_table arp_tbl
struct neigh_table nd_tbl
struct inet_hashinfo tcp_hashinfo
struct udp_table udp_table
struct proto tcp_prot
struct hlist_head unix_socket_table[*]
# arch/powerpc/
struct paca_struct **paca_ptrs
struct paca_struct *paca
struct paca_struct paca[*]
struct cpu_spec *cur_cpu_spec
struct machdep_calls ppc_md
struct ppc64_caches ppc64_caches
unsigned long powerpc_firmware_features
struct rtas_t rtas
struct fw_dump fw_dump
pgd_t swapper_pg_dir[*]
void *hardirq_ctx[*]
void *softirq_ctx[*]
void *critirq_ctx[*]
unsigned long long memory_limit
unsigned char logdata[*]
char *rtas_log_buf
int error_log_cnt
"""

_DECLARATION = re.compile(r"(?P<type>.*?)(?P<name>[A-Za-z_]\w*)(?P<array>(?:\[[^]]*\])*)$")


@cache
def declarations() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Name of a variable -> its possible (type, array suffix) in C, the newest first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in _DECLARATIONS.split("\n"):
        match = None if line.startswith("#") else _DECLARATION.match(line)
        if match:
            found.setdefault(match["name"], []).append((match["type"].strip(), match["array"]))
    return found
