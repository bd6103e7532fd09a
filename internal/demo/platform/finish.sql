ALTER TABLE app.topics       ADD PRIMARY KEY (id);
ALTER TABLE app.people       ADD PRIMARY KEY (id), ADD UNIQUE (handle);
ALTER TABLE app.devices      ADD PRIMARY KEY (id);
ALTER TABLE app.videos       ADD PRIMARY KEY (id);
ALTER TABLE app.watch_events ADD PRIMARY KEY (id, at);
ALTER TABLE app.messages     ADD PRIMARY KEY (id);
ALTER TABLE billing.payments ADD PRIMARY KEY (id);

ALTER TABLE app.devices      ADD FOREIGN KEY (person_id)    REFERENCES app.people (id);
ALTER TABLE app.videos       ADD FOREIGN KEY (creator_id)   REFERENCES app.people (id),
                             ADD FOREIGN KEY (topic_id)     REFERENCES app.topics (id);
ALTER TABLE app.watch_events ADD FOREIGN KEY (person_id)    REFERENCES app.people (id),
                             ADD FOREIGN KEY (video_id)     REFERENCES app.videos (id);
ALTER TABLE app.messages     ADD FOREIGN KEY (sender_id)    REFERENCES app.people (id),
                             ADD FOREIGN KEY (recipient_id) REFERENCES app.people (id);
ALTER TABLE billing.payments ADD FOREIGN KEY (person_id)    REFERENCES app.people (id);

CREATE INDEX people_country ON app.people (country);
CREATE INDEX devices_person ON app.devices (person_id);
CREATE INDEX videos_creator ON app.videos (creator_id);
CREATE INDEX watch_events_person ON app.watch_events (person_id, at);
CREATE INDEX messages_sender ON app.messages (sender_id);
CREATE INDEX messages_recipient ON app.messages (recipient_id);
CREATE INDEX payments_person ON billing.payments (person_id);

SELECT setval(pg_get_serial_sequence('app.people', 'id'), (SELECT max(id) FROM app.people));
ANALYZE;
