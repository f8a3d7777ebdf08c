// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Ways to bring a kernel down, for tests of what reads its dump:
 *
 *     echo KIND > /sys/module/phypan_crash/parameters/crash
 *
 * Each way goes through a few functions of its own, so that a backtrace has something to name.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/irq_work.h>
#include <linux/kdebug.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/string.h>

/* Read at run time, so that the compiler cannot know that it points nowhere. */
static struct phypan_victim {
	long pad[4];
	long value;
} *volatile phypan_nowhere;

/*
 * With interrupts off: when Linux 6.12 reports a fault that came with interrupts on, it calls the
 * firmware with interrupts on to have its memory preserved, and dies of a BUG() there, silently.
 */
static noinline void phypan_null(void)
{
	unsigned long flags;

	local_irq_save(flags);
	phypan_nowhere->value = 1;
	local_irq_restore(flags);
}

static noinline void phypan_bug(void)
{
	BUG_ON(phypan_nowhere == NULL);
}

static noinline void phypan_warn(void)
{
	WARN(phypan_nowhere == NULL, "phypan: a warning to order");
}

static noinline void phypan_soft_lockup(void)
{
	preempt_disable();
	while (!phypan_nowhere)
		cpu_relax();
	preempt_enable();
}

static noinline void phypan_hard_lockup(void)
{
	unsigned long flags;

	local_irq_save(flags);
	while (!phypan_nowhere)
		cpu_relax();
	local_irq_restore(flags);
}

/* Two tasks, two mutexes, taken in opposite order. */
static DEFINE_MUTEX(phypan_first);
static DEFINE_MUTEX(phypan_second);

static int phypan_other_side(void *unused)
{
	mutex_lock(&phypan_second);
	msleep(200);
	mutex_lock(&phypan_first);
	return 0;
}

static noinline void phypan_deadlock(void)
{
	mutex_lock(&phypan_first);
	kthread_run(phypan_other_side, NULL, "phypan_other");
	msleep(200);
	mutex_lock(&phypan_second);
}

/*
 * Deeper and deeper, until the frame lies across the end of the stack: up to a KiB of what is below
 * it is lost, and with it the mark that the scheduler looks at.
 */
static noinline unsigned long phypan_deeper(unsigned long depth)
{
	volatile unsigned long frame[128];
	int i;

	for (i = 0; i < 128; i++)
		frame[i] = depth;
	if ((unsigned long)frame > (unsigned long)end_of_stack(current))
		return phypan_deeper(depth + 1) + frame[depth % 128];
	return frame[0];
}

static noinline void phypan_stack_overflow(void)
{
	unsigned long flags, depth;

	local_irq_save(flags);	/* nobody else's frame goes on top of ours */
	depth = phypan_deeper(1);
	local_irq_restore(flags);
	pr_info("phypan: the sum of %lu frames is below the stack\n", depth);
	msleep(100);		/* the scheduler looks at the mark */
}

/* A fault in an interrupt; while it is being reported, the report faults too. */
static int phypan_die_notified(struct notifier_block *self, unsigned long event, void *data)
{
	static int once;

	if (event == DIE_OOPS && !once++)
		phypan_null();
	return NOTIFY_DONE;
}

static struct notifier_block phypan_die_notifier = {
	.notifier_call = phypan_die_notified,
};

static void phypan_in_interrupt(struct irq_work *work)
{
	phypan_null();
}

static noinline void phypan_recursive_fault(void)
{
	static struct irq_work work;

	register_die_notifier(&phypan_die_notifier);
	init_irq_work(&work, phypan_in_interrupt);
	irq_work_queue(&work);
	msleep(1000);
}

/* A load from a real address at which there is nothing: the processor checks. */
static unsigned long nowhere = 1UL << 45;
module_param(nowhere, ulong, 0444);
MODULE_PARM_DESC(nowhere, "real address that nothing answers at");

static noinline void phypan_machine_check(void)
{
	void __iomem *mapped = ioremap(nowhere, PAGE_SIZE);

	if (!mapped) {
		pr_err("phypan: cannot map real address %#lx\n", nowhere);
		return;
	}
	pr_info("phypan: read %#x\n", readl(mapped));
	iounmap(mapped);
}

static const struct {
	const char *name;
	void (*run)(void);
} phypan_kinds[] = {
	{ "null", phypan_null },
	{ "bug", phypan_bug },
	{ "warn", phypan_warn },
	{ "soft-lockup", phypan_soft_lockup },
	{ "hard-lockup", phypan_hard_lockup },
	{ "deadlock", phypan_deadlock },
	{ "stack-overflow", phypan_stack_overflow },
	{ "recursive-fault", phypan_recursive_fault },
	{ "machine-check", phypan_machine_check },
};

static int phypan_set(const char *value, const struct kernel_param *param)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(phypan_kinds); i++) {
		if (sysfs_streq(value, phypan_kinds[i].name)) {
			pr_info("phypan: %s\n", phypan_kinds[i].name);
			phypan_kinds[i].run();
			return 0;
		}
	}
	return -EINVAL;
}

static const struct kernel_param_ops phypan_ops = { .set = phypan_set };
module_param_cb(crash, &phypan_ops, NULL, 0200);
MODULE_PARM_DESC(crash, "write the name of a kind to crash in that way");

static int __init phypan_crash_init(void)
{
	return 0;
}

static void __exit phypan_crash_exit(void)
{
}

module_init(phypan_crash_init);
module_exit(phypan_crash_exit);
MODULE_DESCRIPTION("Ways to bring a kernel down");
MODULE_AUTHOR("The phypan authors");
MODULE_LICENSE("Dual MIT/GPL");
