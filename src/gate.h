/*
 * gate.h: the locks that say who may act: the extension's gate, the tables and the shards.
 */
#ifndef WF_GATE_H
#define WF_GATE_H

/* locks the gate for this transaction and looks: false where the extension is gone or of another version */
extern bool wf_gate_enter(void);

/* locks what a turn writes for this transaction: no table is rewritten in the middle of it */
extern void wf_gate_lock_tables(void);

/* a shard's lock; session = held until the process ends or releases it, else until the transaction ends */
extern bool wf_gate_try_shard(int shard, bool session);
extern void wf_gate_release_shard(int shard);

/* takes all shards that nobody holds for this transaction, and the tables; a bit each */
extern uint64 wf_gate_take_free_shards(void);

#endif
