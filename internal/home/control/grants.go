package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// Grant is a request and what was decided about it, as stored: envelopes are unverified text.
type Grant struct {
	Request   grant.Request
	Envelope  string // the request's text
	Reason    string // free text; it stays here
	At        time.Time
	Decisions []Decision
}

// Decision is one signed answer to a request.
type Decision struct {
	Kind     grant.Kind
	Approver string
	Envelope string // signed note
	At       time.Time
}

// Add stores a request with its free-text reason and the salt of the reason's hash, and its
// record in the same transaction.
func (s *Store) Add(ctx context.Context, e grant.Envelope, reason string, salt []byte, record *trefoil.Body) error {
	return s.AddFor(ctx, e, reason, salt, nil, record)
}

// AddFor is Add with the subjects of a case, whose digest the request holds.
func (s *Store) AddFor(ctx context.Context, e grant.Envelope, reason string, salt []byte, subjects []string, record *trefoil.Body) error {
	text, err := e.Text()
	if err != nil {
		return fmt.Errorf("add request: %w", err)
	}
	r := e.Request
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `insert into trefoil.grants
			(id, principal, dataset, definition, purpose, valid_from, valid_till, envelope, reason, salt, at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			r.ID, r.Principal, r.Dataset, r.Definition, r.Purpose, r.From, r.Until, text, reason, salt, e.At); err != nil {
			return err
		}
		if len(subjects) > 0 {
			if _, err := tx.Exec(ctx, `insert into trefoil.grant_subjects (grant_id, subjects) values ($1, $2)`, r.ID, subjects); err != nil {
				return withoutValues(err)
			}
		}
		return enqueue(ctx, tx, record)
	})
	if err != nil {
		return fmt.Errorf("add request: %w", err)
	}
	return nil
}

// Decide stores a signed answer and its record. The same approver's same answer twice is one answer.
func (s *Store) Decide(ctx context.Context, id string, d Decision, record *trefoil.Body) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `insert into trefoil.decisions (grant_id, kind, approver, envelope, at)
			values ($1, $2, $3, $4, $5) on conflict do nothing`, id, string(d.Kind), d.Approver, d.Envelope, d.At)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return enqueue(ctx, tx, record)
	})
	if err != nil {
		return fmt.Errorf("store decision: %w", err)
	}
	return nil
}

// Get returns one grant with its decisions, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (*Grant, error) {
	found, err := s.query(ctx, "where g.id = $1", id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return &found[0], nil
}

// List returns the newest grants first, at most limit.
func (s *Store) List(ctx context.Context, limit int) ([]Grant, error) {
	return s.query(ctx, "order by g.at desc, g.id limit $1", limit)
}

// Current returns the grants of principal for dataset that have not run out at now, nor at any
// time that a gateway was seen at, newest end first. Whether one is valid is for the caller to check.
func (s *Store) Current(ctx context.Context, principal, dataset string, now time.Time) ([]Grant, error) {
	return s.query(ctx, `where g.principal = $1 and g.dataset = $2 and g.valid_till > greatest($3, (select high from trefoil.clock))
		order by g.valid_till desc, g.id limit 64`, principal, dataset, now)
}

func (s *Store) query(ctx context.Context, tail string, args ...any) ([]Grant, error) {
	rows, err := s.pool.Query(ctx, `select g.envelope, g.reason, g.at from trefoil.grants g `+tail, args...)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Grant, error) {
		var g Grant
		if err := row.Scan(&g.Envelope, &g.Reason, &g.At); err != nil {
			return g, err
		}
		e, err := grant.ParseText(g.Envelope)
		if err != nil {
			return g, err
		}
		g.Request = e.Request
		return g, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	for i := range found {
		if err := s.decisions(ctx, &found[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (s *Store) decisions(ctx context.Context, g *Grant) error {
	rows, err := s.pool.Query(ctx, `select kind, approver, envelope, at from trefoil.decisions
		where grant_id = $1 order by at, approver`, g.Request.ID)
	if err != nil {
		return fmt.Errorf("read decisions: %w", err)
	}
	g.Decisions, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Decision, error) {
		var d Decision
		err := row.Scan(&d.Kind, &d.Approver, &d.Envelope, &d.At)
		return d, err
	})
	if err != nil {
		return fmt.Errorf("read decisions: %w", err)
	}
	return nil
}

// ErrNoApproval means that nobody with the right to has approved, or that somebody revoked
// or denied. The caller should ask: trefoil request.
var ErrNoApproval = errors.New("no approval in force")

// Use is what somebody wants to do with a grant.
type Use struct {
	Principal, Dataset, Definition string
	Subjects                       string // digest of a case's subjects; "": the dataset itself
	Outside                        bool   // the principal is not wholly in the region
	At                             time.Time
}

// Weigh tells what the stored answers come to. A denial or revocation that was stored counts
// whoever signed it: it was verified then, and removing its approver does not undo it.
func (g *Grant) Weigh(book grant.Book, outside bool, now time.Time) (*grant.Standing, error) {
	answers := make([]string, len(g.Decisions))
	var ended error
	for i, d := range g.Decisions {
		answers[i] = d.Envelope
		switch d.Kind {
		case grant.KindDenial:
			ended = fmt.Errorf("%w: %w", ErrNoApproval, grant.ErrDenied)
		case grant.KindRevocation:
			ended = fmt.Errorf("%w: %w", ErrNoApproval, grant.ErrRevoked)
		}
	}
	s := book.Weigh(g.Request, answers, outside, now)
	if ended != nil {
		return s, ended
	}
	if err := s.Held(); err != nil {
		return s, fmt.Errorf("%w: %w", ErrNoApproval, err)
	}
	return s, nil
}

// allows reports whether the grant is for this use.
func (g *Grant) allows(u Use) error {
	r := g.Request
	if r.Principal != u.Principal || r.Dataset != u.Dataset || r.Definition != u.Definition || r.Subjects != "" && r.Subjects != u.Subjects {
		return grant.ErrAltered
	}
	return nil
}

// Held returns a grant of found that allows a use, with its standing. One that is bound to a
// statement comes after all that are not. Without one it says why the last gives nothing.
func Held(found []Grant, book grant.Book, u Use) (*Grant, *grant.Standing, error) {
	err := ErrNoApproval
	var bound *Grant
	var boundStanding *grant.Standing
	for i := range found {
		g := &found[i]
		e := g.allows(u)
		var s *grant.Standing
		if e == nil {
			s, e = g.Weigh(book, u.Outside, u.At)
		}
		switch {
		case e != nil:
			err = e
		case g.Request.Statement == "":
			return g, s, nil
		case bound == nil:
			bound, boundStanding = g, s
		}
	}
	if bound == nil {
		return nil, nil, err
	}
	return bound, boundStanding, nil
}

// Approved is Held for a dataset itself, by approvers without rules of how many there must be.
func Approved(found []Grant, approvers []grant.Approver, principal, dataset, definition string, now time.Time) (*Grant, *grant.Signed, string, error) {
	g, s, err := Held(found, grant.Book{Approvers: approvers}, Use{Principal: principal, Dataset: dataset, Definition: definition, At: now})
	if err != nil {
		return nil, nil, "", err
	}
	return g, s.Approvals[0], s.Notes[0], nil
}
