\set topic random(1, 16)
BEGIN;
SELECT label FROM app.topics WHERE id = :topic;
SELECT count(*) FROM app.videos WHERE topic_id = :topic;
END;
