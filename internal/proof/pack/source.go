package pack

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// source is where a pack's files are read from. Its errors are *trefoil.VerifyError where the
// pack is at fault.
type source struct {
	root   *os.Root // of a directory
	file   *os.File // of a zip
	sizes  map[string]int64
	zipped map[string]*zip.File
}

// IsPack reports whether path is a zip file, or a directory with a manifest.
func IsPack(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if info.IsDir() {
		_, err := os.Lstat(filepath.Join(path, manifestFile))
		return err == nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:2]) == "PK"
}

// openSource opens a pack and looks at every name in it before any file is read.
func openSource(path string) (*source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read pack: %w", err)
	}
	s := &source{sizes: map[string]int64{}}
	if info.IsDir() {
		if s.root, err = os.OpenRoot(path); err != nil {
			return nil, fmt.Errorf("read pack: %w", err)
		}
		err = s.walk()
	} else {
		if s.file, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("read pack: %w", err)
		}
		err = s.unzip(info.Size())
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// known notes a file. It refuses what is no plain file of a pack.
func (s *source) known(name string, size int64) error {
	switch _, twice := s.sizes[name]; {
	case !goodPath(name):
		return failed("the pack holds a name that no pack has: %.80q", name)
	case twice:
		return failed("the pack holds %s twice", name)
	case len(s.sizes) >= maxFiles+2:
		return failed("the pack holds more than %d files", maxFiles)
	case size < 0 || size > maxFile:
		return failed("%s is larger than any file of a pack", name)
	}
	s.sizes[name] = size
	return nil
}

func (s *source) walk() error {
	return fs.WalkDir(s.root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read pack: %w", err)
		}
		if d.IsDir() {
			if strings.Count(path, "/") > 4 {
				return failed("the pack holds a name that no pack has: %.80q", path)
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read pack: %w", err)
		}
		if !info.Mode().IsRegular() {
			return failed("%.80q is no plain file", path)
		}
		return s.known(path, info.Size())
	})
}

// unzip reads the zip's directory. Sizes there are claims: what is read is bounded by the list.
func (s *source) unzip(size int64) error {
	r, err := zip.NewReader(s.file, size)
	if err != nil {
		return failed("the zip file cannot be read: %v", err)
	}
	s.zipped = map[string]*zip.File{}
	for _, f := range r.File {
		if !f.Mode().IsRegular() || f.NonUTF8 || f.UncompressedSize64 > maxFile {
			return failed("%.80q is no plain file", f.Name)
		}
		if err := s.known(f.Name, int64(f.UncompressedSize64)); err != nil {
			return err
		}
		s.zipped[f.Name] = f
	}
	return nil
}

// open opens one file. What it gives ends after size bytes, or is longer: see whole.
func (s *source) open(name string) (io.ReadCloser, error) {
	if _, there := s.sizes[name]; !there {
		return nil, failed("%s is missing", name)
	}
	if s.zipped != nil {
		f, err := s.zipped[name].Open()
		if err != nil {
			return nil, failed("%s cannot be unpacked", name)
		}
		return f, nil
	}
	f, err := s.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, fmt.Errorf("read pack: %w", err)
	}
	return f, nil
}

// small reads a whole file of at most limit bytes.
func (s *source) small(name string, limit int64) ([]byte, error) {
	f, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, failed("%s cannot be read", name)
	}
	if int64(len(data)) > limit {
		return nil, failed("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

func (s *source) close() error {
	var errs []error
	if s.root != nil {
		errs = append(errs, s.root.Close())
	}
	if s.file != nil {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
