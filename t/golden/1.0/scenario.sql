-- What happens to the golden instances, under a clock that stands and is moved by hand: see t/021_golden.pl. Where it is said
-- again, the same logs come out.
SET wfproc.fake_now = '2024-01-01 00:00:00+00';

-- payloads of all kinds; stamps before 1970 and to the microsecond; a key
SELECT wfproc.start('golden', 'plain', '{"do": [["set", "a", 1]]}', '1969-07-20 20:17:40.123456+00', attributes => '{"kind": "plain", "n": 1.50}', live_from => '2023-06-01');
SELECT wfproc.send('plain', 'e', p::jsonb, timestamptz '1970-01-01' + n * interval '100 days', CASE WHEN n % 3 = 0 THEN 'key ' || n END)
FROM unnest(ARRAY['null', 'true', '[]', '[1, [2, {"": null}]]', '"text"', '-0', '1e40', '0.00', '-12345678901234567890.123456789', '1e-30', '9007199254740993',
                  '{"b": 1, "a": 2, "aa": 3, "": 4}', '"\ud834\udd1e\u00e9e\u0301"', '"\u0001\u001f\u007f\"\\\/"', '{"\ud834\udd1e": [1.0, 1.00, 1e2]}']) WITH ORDINALITY p(p, n);
SELECT wfproc.send('plain', 'late', '{"do": [["note"]]}', '1969-08-01');
SELECT wfproc.run();
SELECT wfproc.start('golden', U&'\00DCbung \+01D11E / "1"', '{"do": [["note"], ["undone"]]}', '2023-01-01', live_from => '-infinity');
SELECT wfproc.send(U&'\00DCbung \+01D11E / "1"', U&'Ereignis \+01F980', '{"do": [["note"], ["attributes", {"\u00e9": "\ud83e\udd80", "x": 1}], ["attributes", {"x": null}]]}', '2023-01-02', U&'Schl\00FCssel');

-- messages, answers, replies, keys, one that is dead, monitors, or_start
SELECT wfproc.start('golden', 'talks', '{"do": [["note"], ["send", "plain", "hello", {"n": 1.0}, "0", "k"], ["send", "plain", "hello", {"n": 1.0}, "0", "k"],
    ["send", "nobody", "hello", {}, "0", null], ["or start", "born by mail", "hello", {"do": [["note"], ["answer", "yes", {"who": "me"}]]}, "golden skips"],
    ["monitor", "plain"], ["monitor", "unknown"]]}');
SELECT wfproc.send('talks', 'ask', '{"do": [["send", "plain", "question", {"do": [["reply", {"answer": 42}]]}, "1 s", "question 1"]]}', '2024-01-01 00:00:01');
-- timers: replaced, cancelled, by the state, in the past, that set others
SELECT wfproc.start('golden', 'timers', '{"do": [["timer", "a", "1 day", {"do": [["timer", "b", "1 hour", {"x": 1}], ["cancel timer", "c"]]}], ["timer", "c", "2 days", {}],
    ["timer", "d", "3 days", {"n": 1}], ["timer", "d", "4 days", {"n": 2}], ["timer at", "old", "2020-01-01T00:00:00Z", {}, null],
    ["set", "phase", 1], ["timer at", "phase", "2024-01-05T00:00:00Z", {}, "phase"], ["timer at", "phase 2", "2024-01-02T00:00:00Z", {}, "phase"]]}');
SELECT wfproc.send('timers', 'next phase', '{"do": [["set", "phase", 2]]}', '2024-01-03');
-- postponed until there is something; rejected
SELECT wfproc.start('golden', 'waits', '{}');
SELECT wfproc.send('waits', 'early', '{"do": [["postpone unless", "opened"], ["note"]]}', '2024-01-01 00:00:01');
SELECT wfproc.send('waits', 'no', '{"do": [["reject", "not now"]]}', '2024-01-01 00:00:02');
SELECT wfproc.send('waits', 'open', '{"do": [["set", "opened", true]]}', '2024-01-01 00:00:03');
-- children of all kinds of ends
SELECT wfproc.start('golden', 'parent', '{"do": [["start", "golden", "child done", {"do": [["timer", "end", "1 day", {"do": [["complete", {"r": 1}]]}]]}, "0", "leave"],
    ["start", "golden fails", "child failed", {"do": [["timer", "end", "2 days", {"do": [["fail", "had to"]]}]]}, "0", "leave"],
    ["start", "golden", "child left", {"do": [["note"]]}, "0", "leave"], ["start", "golden", "child cancelled", {"do": [["note"]]}, "1 hour", "cancel"],
    ["start", "golden", "child terminated", {"do": [["note"]]}, "0", "terminate"], ["start", "golden", "plain", {}, "0", "leave"], ["note"]]}');
SELECT wfproc.send('parent', 'end', '{"do": [["complete", ["all", "done", 1.0]]]}', '2024-01-04');
-- cancels: obeyed, refused until the deadline, put off and then completed; between processes
SELECT wfproc.start('golden', 'obeys'), wfproc.start('golden', 'stubborn', '{"do": [["set", "stubborn", true]]}'), wfproc.start('golden', 'tidies', '{"do": [["set", "stubborn", true]]}');
SELECT wfproc.start('golden', 'boss', '{"do": [["start", "golden skips", "minion 1", {}, "0", "leave"], ["start", "golden skips", "minion 2", {}, "0", "leave"],
    ["cancel", "minion 1", "enough", "1 hour"], ["terminate", "minion 2", "enough"], ["monitor", "obeys"], ["demonitor", "obeys"], ["monitor", "tidies"]]}');
SELECT wfproc.run();
SELECT wfproc.cancel('obeys', 'no more'), wfproc.cancel('stubborn', 'no more', '1 hour'), wfproc.cancel('tidies', 'no more', NULL);
SELECT wfproc.send('tidies', 'tidied', '{"do": [["complete", {"tidy": true}]]}', '2024-01-01 12:00');
SELECT wfproc.run();
-- failures: retried, tried at once, paused, resumed, skipped; closed; set aside
SELECT wfproc.start('golden', 'fails'), wfproc.start('golden fails', 'fails for good'), wfproc.start('golden skips', 'goes on');
SELECT wfproc.send(id, 'bad', '{"do": [["raise unless", "luck"]]}', '2024-01-01 06:00'), wfproc.send(id, 'after', '{"do": [["note"]]}', '2024-01-01 07:00')
FROM unnest(ARRAY['fails', 'fails for good', 'goes on']) id;
SET wfproc.fake_now = '2024-01-01 08:00:00+00';
SELECT wfproc.run();
SELECT wfproc.retry_now('fails', 'hurry'), wfproc.run();
SELECT wfproc.resume('fails'), wfproc.run();
SELECT wfproc.skip('fails', 'it is bad'), wfproc.run();
SELECT wfproc.pause('fails', 'lunch'), wfproc.run();
SELECT wfproc.send('fails', 'while paused', '{}', '2024-01-01 09:00'), wfproc.set_attributes('fails', '{"by hand": true}');
SET wfproc.fake_now = '2024-01-01 10:00:00+00';
SELECT wfproc.run();
SELECT wfproc.resume('fails'), wfproc.run();

-- upgrades: dated, at once, over two versions, back, by a roll-out, one that fails and then does not
SELECT wfproc.start('golden', 'up ' || n, '{"do": [["note"], ["timer", "t", "20 days", {"do": [["note"], ["send", "talks", "told", {}, "0", null]]}]]}', attributes => jsonb_build_object('wave', n % 2))
FROM generate_series(1, 6) n;
SELECT wfproc.start('golden', 'immovable', '{"do": [["set", "immovable", true]]}', attributes => '{"wave": 1}');
SELECT wfproc.upgrade('up 1', 2, '2024-01-10'), wfproc.upgrade('up 2', 3, '2024-01-10'), wfproc.upgrade('up 2', 2, '2024-01-12'), wfproc.upgrade('up 3', 2), wfproc.upgrade('up 3', 3, '2024-01-11');
SELECT wfproc.send(id, 'e', jsonb_build_object('day', day, 'do', '[["note"], ["raise unless", "self"]]'::jsonb), day, id || day)
FROM (SELECT 'up ' || n AS id FROM generate_series(1, 6) n UNION ALL SELECT 'immovable') i, generate_series(timestamptz '2024-01-08', '2024-01-16', '2 days') day ORDER BY day, id;
SELECT wfproc.rollout('golden', 2, '2024-01-09', from_version => 1, attributes => '{"wave": 1}');
SET wfproc.fake_now = '2024-01-13 00:00:00+00';
SELECT wfproc.run();
SELECT wfproc.send('immovable', 'let go', '{"do": [["unset", "immovable"]]}', '2024-01-08 12:00');
SELECT wfproc.resume('immovable'), wfproc.run();
SET wfproc.fake_now = '2024-02-01 00:00:00+00';
SELECT wfproc.run();

-- a past that is caught up on; erased payloads; forks
SELECT wfproc.start('golden', 'year', '{"do": [["timer", "month", "30 days", {"do": [["note"], ["timer", "month", "31 days", {}]]}]]}', '2023-02-01', version => 2, live_from => '2023-06-15 12:00');
SELECT wfproc.send('year', 'e', jsonb_build_object('n', n, 'do', '[["note"], ["attributes", {"n": 1}]]'::jsonb), timestamptz '2023-02-02' + n * interval '37 days') FROM generate_series(1, 9) n;
SELECT wfproc.start('golden', 'erased', '{"secret": 1}', '2024-01-20'), wfproc.send('erased', 'e', '{"secret": 2}', '2024-01-21'), wfproc.send('erased', 'e', '{"open": 3}', '2024-01-22');
SELECT wfproc.start('golden', 'source', '{"do": [["set", "a", 1], ["timer", "t", "1 day", {}]]}', '2024-01-20'), wfproc.send('source', 'e', '{"b": 1}', '2024-01-20 06:00'), wfproc.upgrade('source', 2, '2024-01-20 08:00');
SELECT wfproc.run();
SELECT wfproc.redact('erased', 2, 'asked for'), wfproc.run();
SELECT wfproc.send('erased', 'e', '{"after": true}', '2024-01-23'), wfproc.run();
SELECT wfproc.fork('source', 3, 'fork'), wfproc.fork('source', 2, 'fork that runs', false);
SELECT wfproc.send('fork that runs', 'e', '{"do": [["note"]]}', '2024-01-25'), wfproc.resume('fork'), wfproc.run();
SELECT wfproc.terminate('child left', 'and that is all'), wfproc.run();
