package dataset

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// marker is a random word that the flow wrote into the source's log, and where. It stands in
// the dataset with the position, and the slot is never confirmed beyond it: so the source must
// still have it in the log that it keeps. A source that was restored from a backup, or a
// standby that was promoted without it, has another history there, however far it has come
// since, and whatever its identifier, timeline and slot say.
type marker struct {
	word   string   // "" where the source does not let us write one
	before flow.LSN // it begins at or after this
	after  flow.LSN // and ends before or at this
}

// markEvery is how often one is written. The source keeps its log from the last one on.
const markEvery = time.Second

// mark writes a marker. One that the source does not allow is none.
func (v *sight) mark(ctx context.Context) (marker, error) {
	var word [16]byte
	if _, err := rand.Read(word[:]); err != nil {
		return marker{}, fmt.Errorf("draw a marker: %w", err)
	}
	m := marker{word: hex.EncodeToString(word[:])}
	var before, after string
	err := v.pulse.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.pg_logical_emit_message(false, 'trefoil', $1)::text`, m.word).
		Scan(&before, &after)
	if code := sqlState(err); code == "42501" || code == "25006" {
		return marker{}, nil
	}
	if err != nil {
		return marker{}, fmt.Errorf("mark the source's log: %w", safe(err))
	}
	var err1, err2 error
	m.before, err1 = flow.ParseLSN(before)
	m.after, err2 = flow.ParseLSN(after)
	return m, errors.Join(err1, err2)
}

// renew writes a marker when the last is old enough. It must be called before the batch's
// snapshot: then the stream, which is read to the end of the log after it, shows that the
// marker is flushed before it is relied on.
func (f *follower) renew(ctx context.Context) error {
	if time.Since(f.marked) < markEvery || f.next.word != "" {
		return nil
	}
	m, err := f.v.mark(ctx)
	if err != nil {
		return err
	}
	f.marked, f.next = time.Now(), m
	return nil
}

// keep saves a new marker in the transaction that saves the position, once the position has
// passed it.
func (f *follower) keep(ctx context.Context, position flow.LSN) error {
	if f.next.word == "" || position < f.next.after {
		return nil
	}
	_, err := f.a.tx.Exec(ctx, "UPDATE trefoil_care.marker SET word = $1, before = $2::text::pg_lsn, after = $3::text::pg_lsn",
		f.next.word, f.next.before.String(), f.next.after.String())
	if err != nil {
		return fmt.Errorf("keep the marker: %w", safe(err))
	}
	return nil
}

// confirm lets the source forget what is durable, but for the marker.
func (f *follower) confirm(position flow.LSN) {
	if f.next.word != "" && position >= f.next.after {
		f.kept, f.next = f.next, marker{}
	}
	if f.kept.word != "" {
		position = min(position, f.kept.before)
	}
	f.s.Confirm(position)
}

// openMarker reads the marker that is kept, after making its place.
func (t *target) openMarker(ctx context.Context) (m marker, err error) {
	conn, err := t.session(ctx)
	if err != nil {
		return m, err
	}
	defer closeConn(conn)
	err = inTx(ctx, conn, func(tx pgx.Tx) error {
		if err := makeCareSchema(ctx, tx); err != nil {
			return err
		}
		var before, after string
		if err := tx.QueryRow(ctx, "SELECT word, before::text, after::text FROM trefoil_care.marker").Scan(&m.word, &before, &after); err != nil {
			return fmt.Errorf("read the marker: %w", safe(err))
		}
		var err1, err2 error
		m.before, err1 = flow.ParseLSN(before)
		m.after, err2 = flow.ParseLSN(after)
		return errors.Join(err1, err2)
	})
	return m, err
}

// forgetMarker takes the marker away when a dataset begins anew: it belongs to another history.
func forgetMarker(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "UPDATE trefoil_care.marker SET word = ''"); err != nil {
		return fmt.Errorf("forget the marker: %w", safe(err))
	}
	return nil
}

// known says whether the log that the source keeps for the slot has the marker. conn must
// be in no transaction. A slot beyond the marker cannot tell.
func (m marker) known(ctx context.Context, conn *pgx.Conn, slot string, confirmed flow.LSN) (bool, error) {
	if m.word == "" {
		return true, nil
	}
	if confirmed > m.before {
		return false, nil
	}
	var there bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_logical_slot_peek_binary_changes($1, $2::text::pg_lsn, NULL,
			'proto_version', '1', 'publication_names', $3, 'messages', 'true') c
		WHERE pg_catalog.get_byte(c.data, 0) = 77 AND pg_catalog.position(c.data, pg_catalog.convert_to($4, 'UTF8')) > 0)`,
		slot, m.after.String(), publication, m.word).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for the marker in the source's log: %w", safe(err))
	}
	return there, nil
}

// divergent says why the source's history is not the one that the dataset followed; "" when it
// is.
func (f *follower) divergent(ctx context.Context, conn *pgx.Conn, slot *flow.Slot) (string, error) {
	m, err := f.t.openMarker(ctx)
	if err != nil {
		return "", err
	}
	there, err := m.known(ctx, conn, flow.SlotName(f.name), slot.Confirmed)
	if err != nil || there {
		return "", err
	}
	return anotherHistory, nil
}

const anotherHistory = "the source's history is another one: it was restored, or a standby took over that had not received all"
