package monitor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/trefoil-eu/trefoil"
)

// noLeaf stands for a leaf hash that is left out, in its length in base64.
var noLeaf = base64.StdEncoding.EncodeToString(make([]byte, 32))

// pack is the .zst file of a part.
func (f *journalFiles) pack(g segment, data []byte) ([]byte, error) {
	if f.coder == nil {
		var err error
		if f.coder, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(sealBlock), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderCRC(false)); err != nil {
			return nil, fmt.Errorf("seal journal: %w", err)
		}
	}
	out := binary.BigEndian.AppendUint32(nil, sealedMagic)
	out = binary.BigEndian.AppendUint64(out, uint64(g.start))
	out = binary.BigEndian.AppendUint64(out, uint64(g.end))
	for piece := range slices.Chunk(data, sealBlock) {
		packed := f.coder.EncodeAll(piece, nil)
		out = binary.BigEndian.AppendUint32(out, uint32(len(packed)))
		out = binary.BigEndian.AppendUint32(out, crc32.Checksum(packed, castagnoli))
		out = append(out, packed...)
	}
	return out, nil
}

// leaveOut zeroes, in whole frames of the journal, each leaf that body and salt give, and the
// frames' checksums. What does not fit stays as it is.
func leaveOut(data []byte) error {
	for at := 0; at < len(data); {
		if len(data)-at < frameHeader {
			return errJournalCorrupt
		}
		length := int(binary.BigEndian.Uint32(data[at+4:]))
		if length > len(data)-at-frameHeader {
			return errJournalCorrupt
		}
		payload := data[at+frameHeader : at+frameHeader+length]
		if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(data[at+8:]) {
			return errJournalCorrupt
		}
		for p := 0; p+entryHeader <= len(payload); {
			h, b := int(binary.BigEndian.Uint32(payload[p:])), int(binary.BigEndian.Uint32(payload[p+4:]))
			p += entryHeader
			if h+b > len(payload)-p {
				return errJournalCorrupt
			}
			leaveOutOne(payload[p:p+h], payload[p+h:p+h+b])
			p += h + b
		}
		clear(data[at+8 : at+12]) // the block's own checksum covers it
		at += frameHeader + length
	}
	return nil
}

func leaveOutOne(hdr, body []byte) {
	_, after, ok := bytes.Cut(hdr, []byte(`"leaf":"`))
	var e entry
	if !ok || len(body) == 0 || len(after) <= len(noLeaf) || json.Unmarshal(hdr, &e) != nil || e.Type != entryRecord {
		return
	}
	leaf := trefoil.LeafHash(trefoil.Record{Body: body, Salt: e.Salt}.Leaf())
	if bytes.Equal(leaf[:], e.Leaf) && string(after[:len(noLeaf)]) == base64.StdEncoding.EncodeToString(e.Leaf) {
		copy(after, noLeaf)
	}
}

// putBack gives a record's entry the leaf that was left out.
func (e *entry) putBack(body []byte) {
	if e.Type == entryRecord && len(body) > 0 && len(e.Leaf) == 32 && [32]byte(e.Leaf) == [32]byte{} {
		leaf := trefoil.LeafHash(trefoil.Record{Body: body, Salt: e.Salt}.Leaf())
		e.Leaf = leaf[:]
	}
}
