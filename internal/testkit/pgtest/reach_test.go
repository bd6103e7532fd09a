package pgtest

import (
	"os"
	"path/filepath"
	"testing"
)

// TestACheckoutThatServersCannotEnterIsCopied: root's home is closed to the servers' user.
func TestACheckoutThatServersCannotEnterIsCopied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs servers as another user")
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(tmp, "tmp"))
	closed := filepath.Join(tmp, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "pg18", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(os.TempDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(closed, "pg18", "bin", "postgres")
	if err := os.WriteFile(program, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("postgres", filepath.Join(closed, "pg18", "bin", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := reachable(filepath.Join(closed, "pg18"))
	if dir == filepath.Join(closed, "pg18") {
		t.Fatal("the closed directory was taken")
	}
	st, err := os.Stat(filepath.Join(dir, "bin", "link"))
	if err != nil || st.Mode().Perm()&0o001 == 0 {
		t.Fatalf("the copy: %v, %v", st, err)
	}
}
