/*
 * gate.h: the locks that say who may act: the extension's gate and the shards.
 */
#ifndef WF_GATE_H
#define WF_GATE_H

/* locks the gate for this transaction and looks: false where the extension is gone or of another version */
extern bool wf_gate_enter(void);

/* a shard's lock; session = held until the process ends or releases it, else until the transaction ends */
extern bool wf_gate_try_shard(int shard, bool session);
extern void wf_gate_release_shard(int shard);

/* takes all shards that nobody holds for this transaction; a bit each */
extern uint64 wf_gate_take_free_shards(void);

#endif
