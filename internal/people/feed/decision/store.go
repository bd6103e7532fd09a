package decision

import (
	"context"
	"time"
)

// Store keeps decisions. Both implementations (Postgres, Memory) keep the same promises; a
// call that returned nil is durable as far as the store is.
type Store interface {
	// Save stores one decision. After an error nothing was stored.
	Save(ctx context.Context, d *Decision) error
	// Get returns one decision, or ErrNotFound. It also returns those of restricted
	// subjects: showing a decision to its subject is no use of it against them.
	Get(ctx context.Context, id ID) (*Decision, error)
	// Sample draws at most n decisions of one day and surface, each as likely as the other,
	// none of a restricted subject. What cannot be read is among them, marked Unreadable.
	Sample(ctx context.Context, surface string, day time.Time, n int) ([]*Decision, error)
	// Expire drops every day before the day of the given time, and says how many days it dropped.
	Expire(ctx context.Context, before time.Time) (days int, err error)
	Subjects
}

// Subjects is how a person's rights reach their decisions. A subject is named by the key
// that the platform gives with each request.
type Subjects interface {
	// Access returns all that is held of a subject, oldest first (GDPR art. 15).
	Access(ctx context.Context, subject string) ([]*Decision, error)
	// Erase deletes all that is held of a subject and says how many decisions that was (art. 17).
	Erase(ctx context.Context, subject string) (n int, err error)
	// Restrict keeps a subject's decisions from every use but the subject's own, or lifts that
	// (art. 18). It holds for later decisions too.
	Restrict(ctx context.Context, subject string, on bool) error
	// Restricted says whether a subject is restricted.
	Restricted(ctx context.Context, subject string) (bool, error)
}
