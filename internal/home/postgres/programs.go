package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"time"
)

// ErrNoPrograms is wrapped when no usable PostgreSQL is found: install PostgreSQL 15 or
// later, or name the directory of initdb and postgres in the configuration.
var ErrNoPrograms = errors.New("no PostgreSQL programs found")

// OldestMajor is the oldest PostgreSQL major version that clusters are run on.
const OldestMajor = 15

// Programs is one installation of PostgreSQL's server programs.
type Programs struct {
	Dir   string // directory of initdb, postgres and pg_ctl
	Major int    // 15, 18, …
	Full  string // as postgres --version prints it, e.g. "15.14"
}

// Path returns the path of one program of the installation.
func (p Programs) Path(name string) string { return filepath.Join(p.Dir, name) }

// Has reports whether the installation has a program: small builds lack pg_basebackup.
func (p Programs) Has(name string) bool {
	st, err := os.Stat(p.Path(name))
	return err == nil && st.Mode()&0o111 != 0
}

// FindPrograms finds PostgreSQL's programs: in dir when it is set (and nowhere else), or the
// newest of /usr/lib/postgresql/*/bin, or on PATH.
func FindPrograms(ctx context.Context, dir string) (Programs, error) {
	if dir != "" {
		return programsIn(ctx, dir)
	}
	var best Programs
	for _, d := range candidateDirs() {
		p, err := programsIn(ctx, d)
		if err == nil && p.Major > best.Major {
			best = p
		}
	}
	if best.Dir == "" {
		return Programs{}, fmt.Errorf("%w under /usr/lib/postgresql or on PATH: install PostgreSQL %d or later (Debian: apt-get install postgresql)", ErrNoPrograms, OldestMajor)
	}
	return best, nil
}

// candidateDirs lists where distributions put the programs, newest name first.
func candidateDirs() []string {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		found, err := filepath.Glob(pattern)
		if err == nil {
			dirs = append(dirs, found...)
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(dirs)))
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	return dirs
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (([0-9]+)[^ \n]*)`)

// programsIn reads the version of the installation in dir.
func programsIn(ctx context.Context, dir string) (Programs, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, fmt.Errorf("find PostgreSQL in %s: %w", dir, err)
	}
	p := Programs{Dir: abs}
	for _, name := range []string{"postgres", "initdb"} {
		if !p.Has(name) {
			return Programs{}, fmt.Errorf("%w: %s has no %s", ErrNoPrograms, abs, name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Path("postgres"), "--version")
	cmd.Env = p.environment()
	out, err := cmd.Output()
	if err != nil {
		return Programs{}, fmt.Errorf("run %s --version: %w", p.Path("postgres"), err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return Programs{}, fmt.Errorf("%w: %s does not say its version", ErrNoPrograms, p.Path("postgres"))
	}
	p.Full = string(m[1])
	p.Major, err = strconv.Atoi(string(m[2]))
	if err != nil {
		return Programs{}, fmt.Errorf("read version of %s: %w", abs, err)
	}
	if p.Major < OldestMajor {
		return Programs{}, fmt.Errorf("%w: %s is PostgreSQL %s, at least %d is needed", ErrNoPrograms, abs, p.Full, OldestMajor)
	}
	return p, nil
}

// environment is what every program runs with: nothing of the caller's PG* variables, which
// would silently point it at another cluster. A relocated build finds its libraries beside it.
func (p Programs) environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
	if lib := filepath.Join(filepath.Dir(p.Dir), "lib"); !isSystemDir(p.Dir) {
		env = append(env, "LD_LIBRARY_PATH="+lib)
	}
	return env
}

func isSystemDir(dir string) bool {
	return len(dir) > 5 && dir[:5] == "/usr/"
}
