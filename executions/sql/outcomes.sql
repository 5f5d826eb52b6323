-- What a node comes to, once: its action's or its child's outcome, the end of its wait, the end of an item's body.
-- Named in one index, as results are read by node and by the beginning of node ids (text_pattern_ops).
DROP INDEX event_log_one_outcome;
CREATE UNIQUE INDEX event_log_one_outcome ON event_log (execution_id, node_id text_pattern_ops)
    WHERE event_type IN ('action_completed', 'action_error', 'child_completed', 'wait_completed',
                         'loop_iteration_completed');
DROP INDEX event_log_one_step_end;
CREATE UNIQUE INDEX event_log_one_step_end ON event_log (execution_id, node_id text_pattern_ops)
    WHERE event_type IN ('step_completed', 'step_failed', 'step_skip');
-- An approval is answered once; signals to the execution as a whole have its id as their node.
CREATE UNIQUE INDEX event_log_one_answer ON event_log (execution_id, node_id)
    WHERE event_type = 'signal_received' AND strpos(node_id, ':') > 0;
CREATE UNIQUE INDEX event_log_one_undoing ON event_log (execution_id, node_id) WHERE event_type = 'step_undone';
DROP INDEX event_log_items;
CREATE INDEX event_log_items ON event_log (execution_id, loop_name, current_index)
    WHERE event_type IN ('action_completed', 'action_error', 'child_completed', 'loop_iteration_completed')
      AND loop_name IS NOT NULL;
ALTER TABLE frame SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE timer SET (autovacuum_vacuum_scale_factor = 0.02);
