-- By the database's clock: every instance looks for what was buried since it looked last, and clocks differ.
INSERT INTO chatcore.erased (session_id, erased_at) VALUES (:id, clock_timestamp()) ON CONFLICT DO NOTHING
