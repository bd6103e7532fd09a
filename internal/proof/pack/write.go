package pack

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// Writer makes a pack. After an error of any method, call Abort.
type Writer struct {
	path  string
	file  *os.File // of a zip
	zip   *zip.Writer
	files []listed
	open  *entry
}

// entry is the file that is being written.
type entry struct {
	w    *Writer
	path string
	out  io.Writer
	file *os.File // of a directory
	sum  hash.Hash
	size int64
}

// NewWriter begins a pack at path, which must not exist: a zip if its name ends so, else a
// directory. Others cannot read it.
func NewWriter(path string) (*Writer, error) {
	w := &Writer{path: path}
	if !strings.HasSuffix(path, ".zip") {
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, fmt.Errorf("make pack: %w", err)
		}
		return w, nil
	}
	var err error
	if w.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, fmt.Errorf("make pack: %w", err)
	}
	w.zip = zip.NewWriter(w.file)
	return w, nil
}

// Create begins a file; the one before is complete. It is written by the caller until the next
// call of any method.
func (w *Writer) Create(path string) (io.Writer, error) {
	if err := w.closeEntry(); err != nil {
		return nil, err
	}
	if !goodPath(path) && path != manifestFile && path != listFile {
		return nil, fmt.Errorf("make pack: %q is no path of a pack", path)
	}
	e := &entry{w: w, path: path, sum: sha256.New()}
	if w.zip != nil {
		out, err := w.zip.CreateHeader(&zip.FileHeader{Name: path, Method: zip.Deflate}) // no times: the same pack is the same bytes
		if err != nil {
			return nil, fmt.Errorf("make pack: %w", err)
		}
		e.out = out
	} else {
		full := filepath.Join(w.path, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return nil, fmt.Errorf("make pack: %w", err)
		}
		f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("make pack: %w", err)
		}
		e.out, e.file = f, f
	}
	w.open = e
	return e, nil
}

// Write implements io.Writer.
func (e *entry) Write(p []byte) (int, error) {
	if e.w.open != e {
		return 0, os.ErrClosed
	}
	n, err := e.out.Write(p)
	e.sum.Write(p[:n])
	e.size += int64(n)
	return n, err
}

func (w *Writer) closeEntry() error {
	e := w.open
	w.open = nil
	if e == nil {
		return nil
	}
	if e.file != nil {
		if err := errors.Join(e.file.Sync(), e.file.Close()); err != nil {
			return fmt.Errorf("make pack: %w", err)
		}
	}
	if e.path != manifestFile && e.path != listFile {
		w.files = append(w.files, listed{hex.EncodeToString(e.sum.Sum(nil)), e.size, e.path})
	}
	return nil
}

// Add writes a whole file.
func (w *Writer) Add(path string, data []byte) error {
	out, err := w.Create(path)
	if err != nil {
		return err
	}
	if _, err := out.Write(data); err != nil {
		return fmt.Errorf("make pack: %w", err)
	}
	return w.closeEntry()
}

// AddJSON writes v as a file.
func (w *Writer) AddJSON(path string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("make pack: %w", err)
	}
	return w.Add(path, b.Bytes())
}

// Has reports whether a complete file of that path is in the pack.
func (w *Writer) Has(path string) bool {
	return slices.ContainsFunc(w.files, func(l listed) bool { return l.path == path })
}

// Finish writes keys, list and the signed manifest, and closes the pack.
func (w *Writer) Finish(m Manifest, k Keys, s note.Signer) error {
	if err := w.AddJSON(keysFile, k); err != nil {
		return err
	}
	slices.SortFunc(w.files, func(a, b listed) int { return strings.Compare(a.path, b.path) })
	var list strings.Builder
	for _, l := range w.files {
		list.WriteString(l.String())
	}
	sum := sha256.Sum256([]byte(list.String()))
	m.List, m.Files, m.At = hex.EncodeToString(sum[:]), int64(len(w.files)), m.At.UTC().Truncate(time.Microsecond)
	m.From, m.Until = m.From.UTC().Truncate(time.Microsecond), m.Until.UTC().Truncate(time.Microsecond)
	text, err := trefoil.SignDocument(Header, m, s)
	if err != nil {
		return fmt.Errorf("make pack: %w", err)
	}
	if err := errors.Join(w.Add(listFile, []byte(list.String())), w.Add(manifestFile, []byte(text))); err != nil {
		return err
	}
	if w.zip == nil {
		return nil
	}
	err = errors.Join(w.zip.Close(), w.file.Sync(), w.file.Close())
	if err != nil {
		return fmt.Errorf("make pack: %w", err)
	}
	w.file = nil
	return nil
}

// Abort removes what was written.
func (w *Writer) Abort() error {
	var errs []error
	if w.open != nil && w.open.file != nil {
		errs = append(errs, w.open.file.Close())
	}
	if w.file != nil {
		errs = append(errs, w.file.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.path))...)
}
