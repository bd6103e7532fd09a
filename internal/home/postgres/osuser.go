package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the operating system user that servers run as when we are root: PostgreSQL
// refuses to run as root.
type account struct {
	name     string
	uid, gid int
}

// serverAccount is nil when we are not root.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return &account{name: name, uid: uid, gid: gid}, nil
		}
	}
	return nil, errors.New("running as root: PostgreSQL needs another user, and neither postgres nor nobody exists")
}

// attributes makes a child run as the account in a process group of its own, so that a
// terminal's Ctrl-C reaches us and not the server.
func (a *account) attributes(dieWithParent bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if dieWithParent {
		attr.Pdeathsig = syscall.SIGQUIT // immediate shutdown: children and shared memory go too
	}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// own gives a path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Lchown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, a.name, err)
	}
	return nil
}

// reach makes sure that the account can enter dir. Private parents inside the temporary
// directory are opened for passage only; elsewhere the error says what to do.
func (a *account) reach(dir string) error {
	if a == nil {
		return nil
	}
	tmp, err := filepath.EvalSymlinks(os.TempDir())
	if err != nil {
		tmp = os.TempDir()
	}
	for p := filepath.Dir(dir); ; p = filepath.Dir(p) {
		st, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		if !a.canEnter(st) {
			if !strings.HasPrefix(p, tmp+string(filepath.Separator)) {
				return fmt.Errorf("user %s (PostgreSQL does not run as root) cannot enter %s: choose a directory elsewhere, or run: chmod o+x %s", a.name, p, p)
			}
			if err := os.Chmod(p, st.Mode().Perm()|0o011); err != nil {
				return fmt.Errorf("open %s for passage: %w", p, err)
			}
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

func (a *account) canEnter(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return false
	case int(sys.Uid) == a.uid:
		return st.Mode()&0o100 != 0
	case int(sys.Gid) == a.gid:
		return st.Mode()&0o010 != 0
	}
	return st.Mode()&0o001 != 0
}

// makeDirectories makes what the server needs, owned by the user it runs as.
func (c *Cluster) makeDirectories() error {
	if err := os.MkdirAll(c.o.Directory, 0o755); err != nil {
		return fmt.Errorf("make cluster directory: %w", err)
	}
	if err := c.account.reach(c.o.Directory); err != nil {
		return err
	}
	if a := c.account; a != nil {
		st, err := os.Stat(c.o.Directory)
		if err != nil {
			return fmt.Errorf("look at cluster directory: %w", err)
		}
		if !a.canEnter(st) {
			if err := os.Chmod(c.o.Directory, st.Mode().Perm()|0o011); err != nil {
				return fmt.Errorf("open cluster directory for passage: %w", err)
			}
		}
	}
	for dir, mode := range map[string]os.FileMode{c.DataDir(): 0o700, c.tlsDir(): 0o700, c.SocketDir(): 0o755} {
		if err := c.makeOwned(dir, mode); err != nil {
			return err
		}
	}
	return c.loadPassword()
}

// makeOwned makes dir, or takes it when it is already the server's own: a directory of
// somebody else under the temporary directory could hold a false socket.
func (c *Cluster) makeOwned(dir string, mode os.FileMode) error {
	err := os.Mkdir(dir, mode)
	if errors.Is(err, os.ErrExist) {
		st, err := os.Lstat(dir)
		if err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		mine := ok && st.IsDir() && (int(sys.Uid) == os.Geteuid() || c.account != nil && int(sys.Uid) == c.account.uid)
		if !mine {
			return fmt.Errorf("%s exists and is not a directory of ours", dir)
		}
	} else if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("set mode of directory: %w", err)
	}
	return c.account.own(dir)
}

// maxSocketDir bounds the socket directory's path: sun_path holds 108 bytes with the name.
const maxSocketDir = 80

// SocketDir is where the server's Unix socket is: in the cluster's directory, or under the
// temporary directory, named by a hash, where that path would be too long for a socket.
func (c *Cluster) SocketDir() string {
	if dir := filepath.Join(c.o.Directory, "sock"); len(dir) <= maxSocketDir {
		return dir
	}
	sum := sha256.Sum256([]byte(c.o.Directory))
	return filepath.Join(os.TempDir(), "trefoil-"+hex.EncodeToString(sum[:6]))
}
