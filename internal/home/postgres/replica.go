package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Upstream is how a replica reaches the cluster it follows: over TLS, with a certificate
// whose common name the primary's Access.PeerNames lists.
type Upstream struct {
	User      string  // Access.PeerUser of the primary, a role with REPLICATION
	Client    KeyPair // the replica's own certificate
	Authority string  // verifies the primary's certificate
	Slot      string  // physical slot on the primary, made when missing; WAL is kept for it
}

// CreateReplica makes a streaming replica of the running cluster c by pg_basebackup and
// leaves it stopped. o.Name is its application_name in synchronous_standby_names.
func (c *Cluster) CreateReplica(ctx context.Context, o Options, up Upstream) (*Cluster, error) {
	if o.Name == "" {
		return nil, errors.New("create replica: it needs a name")
	}
	if o.Password == "" {
		o.Password = c.o.Password // roles are copied with the data
	}
	if o.Bin == "" {
		o.Bin = c.prog.Dir
	}
	r, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	if r.Exists() {
		return nil, fmt.Errorf("create replica in %s: %w", r.o.Directory, ErrExists)
	}
	if !r.prog.Has("pg_basebackup") {
		return nil, fmt.Errorf("create replica: %w: %s has no pg_basebackup", ErrNoPrograms, r.prog.Dir)
	}
	if err := r.makeDirectories(); err != nil {
		return nil, err
	}
	info, err := r.conninfo(c, up)
	if err != nil {
		return nil, err
	}
	if err := c.ensureSlot(ctx, up.Slot); err != nil {
		return nil, err
	}
	args := []string{"-D", r.DataDir(), "-d", info, "-X", "stream", "--checkpoint=fast", "--no-password"}
	if up.Slot != "" {
		args = append(args, "--slot="+up.Slot)
	}
	if r.o.NoSync {
		args = append(args, "--no-sync")
	}
	if err := r.command(ctx, "pg_basebackup", args...); err != nil {
		return nil, err
	}
	r.follow(info, up.Slot)
	return r, r.writeOwned(filepath.Join(r.DataDir(), "standby.signal"), nil, 0o600)
}

// OpenReplica takes a replica that CreateReplica made, to follow c. A replica that was
// promoted is opened as what it is now: a primary.
func (c *Cluster) OpenReplica(ctx context.Context, o Options, up Upstream) (*Cluster, error) {
	if o.Password == "" {
		o.Password = c.o.Password
	}
	r, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(r.DataDir(), "standby.signal")); err != nil {
		return r, nil
	}
	info, err := r.conninfo(c, up)
	if err != nil {
		return nil, err
	}
	r.follow(info, up.Slot)
	return r, nil
}

// follow names the primary. Commits there may wait for this replica, so it asks again soon
// after the primary was away (PostgreSQL's default is 5 s).
func (r *Cluster) follow(info, slot string) {
	r.Configure(map[string]string{"primary_conninfo": info, "primary_slot_name": slot, "hot_standby": "on", "wal_retrieve_retry_interval": "500ms"})
}

// conninfo copies the replica's certificate where its server can read it, and renders the
// connection string. No password is in it.
func (r *Cluster) conninfo(primary *Cluster, up Upstream) (string, error) {
	for to, from := range map[string]string{"peer-ca.crt": up.Authority, "peer.crt": up.Client.Certificate, "peer.key": up.Client.Key} {
		b, err := os.ReadFile(from)
		if err != nil {
			return "", fmt.Errorf("read replica's TLS file: %w", err)
		}
		if err := r.writeOwned(filepath.Join(r.tlsDir(), to), b, 0o600); err != nil {
			return "", err
		}
	}
	parts := [][2]string{
		{"host", primary.o.Host}, {"port", strconv.Itoa(primary.Port())}, {"user", up.User}, {"application_name", r.o.Name},
		{"sslmode", "verify-full"}, {"sslrootcert", filepath.Join(r.tlsDir(), "peer-ca.crt")},
		{"sslcert", filepath.Join(r.tlsDir(), "peer.crt")}, {"sslkey", filepath.Join(r.tlsDir(), "peer.key")},
		{"connect_timeout", "10"},
	}
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = p[0] + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p[1]) + "'"
	}
	return strings.Join(words, " "), nil
}

func (c *Cluster) ensureSlot(ctx context.Context, slot string) error {
	if slot == "" {
		return nil
	}
	return c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT pg_create_physical_replication_slot($1, true)
			WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, slot)
		if err != nil {
			return fmt.Errorf("make slot of replica: %w", err)
		}
		return nil
	})
}

// Synchronous makes commits wait for any n of the named replicas, from now on.
func (c *Cluster) Synchronous(ctx context.Context, n int, names ...string) error {
	value := ""
	if n > 0 && len(names) > 0 {
		value = fmt.Sprintf("ANY %d (%s)", n, QuoteAll(names))
	}
	c.Configure(map[string]string{"synchronous_standby_names": value})
	return c.Reload(ctx)
}

// Promote makes a replica a primary and waits until it takes writes.
func (c *Cluster) Promote(ctx context.Context) error {
	err := c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		var done bool
		if err := conn.QueryRow(ctx, `SELECT pg_promote(true, 60)`).Scan(&done); err != nil {
			return err
		}
		if !done {
			return errors.New("not done within 60 s")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("promote %s: %w", c.o.Name, err)
	}
	c.Configure(map[string]string{"primary_conninfo": "", "primary_slot_name": ""})
	return c.Reload(ctx)
}

// Streaming names the replicas that stream from c now, by application name; sync tells which
// of them count for synchronous commits.
func (c *Cluster) Streaming(ctx context.Context) (names []string, sync []string, err error) {
	err = c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT application_name, sync_state IN ('sync','quorum') FROM pg_stat_replication WHERE state = 'streaming' ORDER BY 1`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var counts bool
			if err := rows.Scan(&name, &counts); err != nil {
				return err
			}
			names = append(names, name)
			if counts {
				sync = append(sync, name)
			}
		}
		return rows.Err()
	})
	return names, sync, err
}

// WaitSynchronous waits until all named replicas stream and count for commits.
func (c *Cluster) WaitSynchronous(ctx context.Context, names ...string) error {
	for {
		_, sync, err := c.Streaming(ctx)
		missing := 0
		for _, n := range names {
			if !containsString(sync, n) {
				missing++
			}
		}
		if err == nil && missing == 0 {
			return nil
		}
		if s := sleep(ctx, 50*time.Millisecond); s != nil {
			return fmt.Errorf("wait for %d synchronous replicas of %s: %w", missing, c.o.Name, errors.Join(s, err))
		}
	}
}

// AsSuperuser runs f on a superuser's connection over the Unix socket and closes it.
func (c *Cluster) AsSuperuser(ctx context.Context, database string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, c.SuperuserDSN(database))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.o.Directory, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}
