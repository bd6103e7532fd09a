package enclave

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// readTokens reads tokens.yaml; without one there are none.
func (c *Config) readTokens() ([]identity.Token, error) {
	src, err := readBounded(c.Tokens)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	f, err := identity.DecodeTokens(c.Tokens, src)
	if err != nil {
		return nil, err
	}
	return f.Tokens, nil
}

// ChangeTokens reads tokens.yaml, has change alter it, and replaces the file, while nobody
// else does.
func (c *Config) ChangeTokens(change func([]identity.Token) ([]identity.Token, error)) error {
	lock, err := os.OpenFile(c.Tokens+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock tokens: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock tokens: %w", err)
	}
	tokens, err := c.readTokens()
	if err != nil {
		return err
	}
	if tokens, err = change(tokens); err != nil {
		return err
	}
	text, err := yaml.Marshal(identity.TokenFile{Version: 1, Tokens: tokens})
	if err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	if err := replaceFile(c.Tokens, text); err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	return nil
}

// replaceFile writes a file that is whole at every moment, for its owner alone. A file that
// is there keeps its owner.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".trefoil-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := keepOwner(path, f.Name()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// keepOwner gives a new file the owner of the one it replaces, or of the directory: the
// gateway's account must be able to read what the administrator wrote.
func keepOwner(path, next string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if err := unix.Stat(filepath.Dir(path), &st); err != nil {
			return err
		}
	}
	if int(st.Uid) == os.Geteuid() {
		return nil
	}
	return os.Chown(next, int(st.Uid), int(st.Gid))
}

// TokenUse is what the gateway remembers of a token.
type TokenUse struct {
	Recorded bool      `json:"recorded"`      // the log says that it exists
	Retired  bool      `json:"retired"`       // the log says that it was revoked
	Used     time.Time `json:"used,omitzero"` // last login; zero = never
}

// tokenBook records tokens before they open anything, and remembers when they did.
type tokenBook struct {
	path   string
	scribe *scribe

	mu    sync.Mutex
	uses  map[string]TokenUse
	dirty bool
}

// TokenUses reads what the gateway remembers, by token id.
func (c *Config) TokenUses() (map[string]TokenUse, error) {
	uses := map[string]TokenUse{}
	src, err := readBounded(c.Tokens + ".used")
	if errors.Is(err, os.ErrNotExist) {
		return uses, nil
	}
	if err == nil {
		err = json.Unmarshal(src, &uses)
	}
	if err != nil {
		return nil, fmt.Errorf("read use of tokens: %w", err)
	}
	return uses, nil
}

func (c *Config) openTokenBook(s *scribe) (*tokenBook, error) {
	uses, err := c.TokenUses()
	if err != nil {
		return nil, err
	}
	return &tokenBook{path: c.Tokens + ".used", scribe: s, uses: uses}, nil
}

// record writes a record for every token that is new, or newly revoked. On an error some
// may be recorded; the caller must not put the tokens in force.
func (b *tokenBook) record(ctx context.Context, tokens []identity.Token) error {
	for _, t := range tokens {
		b.mu.Lock()
		use := b.uses[t.ID]
		b.mu.Unlock()
		if use.Recorded && (use.Retired || t.Revoked == "") {
			continue
		}
		if !use.Recorded {
			if err := b.scribe.Record(ctx, tokenRecord("announced", t.ID)); err != nil {
				return fmt.Errorf("record token: %w", err)
			}
			use.Recorded = true
		}
		if t.Revoked != "" {
			if err := b.scribe.Record(ctx, tokenRecord("retired", t.ID)); err != nil {
				return fmt.Errorf("record token: %w", err)
			}
			use.Retired = true
		}
		b.mu.Lock()
		b.uses[t.ID], b.dirty = use, true
		b.mu.Unlock()
	}
	return b.flush()
}

func tokenRecord(event, id string) *trefoil.Body {
	return &trefoil.Body{Kind: trefoil.KindKey, Key: &trefoil.KeyBody{Event: event, Key: id, Use: "token"}}
}

// used remembers a login.
func (b *tokenBook) used(id string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	use := b.uses[id]
	use.Used, b.dirty = at.UTC().Truncate(time.Second), true
	b.uses[id] = use
}

// flush writes what is remembered to its file, if something is new.
func (b *tokenBook) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.dirty {
		return nil
	}
	text, err := json.Marshal(b.uses)
	if err != nil {
		return fmt.Errorf("write use of tokens: %w", err)
	}
	if err := replaceFile(b.path, text); err != nil {
		return fmt.Errorf("write use of tokens: %w", err)
	}
	b.dirty = false
	return nil
}

// NewToken makes a token and stores its verifier. The secret is returned and kept nowhere.
func (c *Config) NewToken(principal, name string, databases []string, life time.Duration, now time.Time) (identity.Token, string, error) {
	var made identity.Token
	var secret string
	err := c.ChangeTokens(func(tokens []identity.Token) ([]identity.Token, error) {
		rules, err := LoadRules(c)
		if err != nil {
			return nil, err
		}
		for _, name := range databases {
			_, isSource := c.Databases[name]
			if name != "*" && !isSource && rules.Definitions[name] == nil {
				return nil, fmt.Errorf("no dataset and no database is named %q", name)
			}
		}
		made, secret, err = rules.People.Directory.NewToken(principal, name, databases, now, now.Add(life))
		if err != nil {
			return nil, err
		}
		return append(tokens, made), nil
	})
	return made, secret, err
}
