package dataset

import (
	"bytes"
	"fmt"
	"image"
	_ "image/jpeg" // the two formats that image.Decode knows here
	_ "image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/image/draw"

	"github.com/thriftc/thriftc/internal/regular"
)

// maxImageFile bounds the file of one image, in bytes.
const maxImageFile = 256 << 20

// decodeFile reads a JPEG or PNG file. An alpha channel is dropped, 16 bits
// are cut to 8, and EXIF orientation is not applied.
func decodeFile(file string) (picture, error) {
	data, err := regular.Read(file, maxImageFile)
	if err != nil {
		return picture{}, err
	}
	m, err := decode(data)
	if err != nil {
		return picture{}, fmt.Errorf("%s: %w", file, err)
	}
	return picture{RGBA: m}, nil
}

func decode(data []byte) (*image.RGBA, error) {
	cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("not a readable JPEG or PNG image: %w", err)
	}
	if cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxPixels/cfg.Height {
		return nil, fmt.Errorf("claims to be %d×%d pixels; the limit is %d in all", cfg.Width, cfg.Height, maxPixels)
	}
	m, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("damaged image: %w", err)
	}
	b := m.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	switch m := m.(type) {
	case *image.NRGBA: // drawing would multiply the colours with alpha
		for y := range b.Dy() {
			copy(out.Pix[out.PixOffset(0, y):][:4*b.Dx()], m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):])
		}
	default:
		draw.Draw(out, out.Bounds(), m, b.Min, draw.Src)
	}
	for i := 3; i < len(out.Pix); i += 4 {
		out.Pix[i] = 255
	}
	return out, nil
}

func isImage(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jpg", ".jpeg", ".png":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// openFolder opens a folder with one subfolder per class, both in byte order
// of their names, or with images alone, which have no labels then. Files that are no images by their extension are passed over.
func openFolder(d *desc) (*store, error) {
	classes, err := os.ReadDir(d.base())
	if err != nil {
		return nil, d.errorf("path", "%v", err)
	}
	s := &store{}
	var files []string
	for _, c := range classes {
		dir := filepath.Join(d.base(), c.Name())
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() || strings.HasPrefix(c.Name(), ".") {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, d.errorf("path", "%v", err)
		}
		before := len(files)
		for _, e := range entries {
			if isImage(e.Name()) && !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
				s.labels = append(s.labels, len(s.classes))
			}
		}
		if len(files) == before {
			return nil, d.errorf("path", "%s holds no .jpg, .jpeg or .png file", dir)
		}
		s.classes = append(s.classes, c.Name())
	}
	if len(s.classes) == 0 {
		for _, e := range classes {
			if isImage(e.Name()) && !e.IsDir() {
				files = append(files, filepath.Join(d.base(), e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, d.errorf("path", "%s holds no subfolders, of which image-folder wants one per class, and no .jpg, .jpeg or .png file", d.base())
	}
	s.imageFiles(files)
	return s, nil
}

// imageFiles makes s a store of one image per file.
func (s *store) imageFiles(files []string) {
	s.n = len(files)
	s.name = func(i int) string { return files[i] }
	s.open = func() (func(int) (record, error), func(), error) {
		return func(i int) (record, error) {
			m, err := decodeFile(files[i])
			return record{image: m}, err
		}, func() {}, nil
	}
}

// openList opens images that a table lists with their labels, one file each or
// as tiles of contact sheets, or images that the description lists, without labels.
func openList(d *desc) (*store, error) {
	if d.labels == "" {
		switch {
		case len(d.files) == 0:
			return nil, d.errorf("kind", "kind image-list needs labels: a table of files and classes, or files: images without labels")
		case d.tile != nil:
			return nil, d.errorf("tile", "contact sheets need labels: the table says how many tiles there are")
		}
		files, err := d.dataFiles()
		if err != nil {
			return nil, err
		}
		s := &store{}
		s.imageFiles(files)
		return s, nil
	}
	t, err := d.readTable()
	if err != nil {
		return nil, err
	}
	if d.tile == nil {
		if len(d.files) > 0 {
			return nil, d.errorf("files", "names contact sheets and needs tile: [width, height]")
		}
		var labels []int
		if len(t.header) > 1 || d.labelColumn != "" { // a table of files alone has none
			if labels, _, err = t.labels("index", "label"); err != nil {
				return nil, err
			}
		}
		files, err := t.column("file")
		if err != nil {
			return nil, err
		}
		for i, f := range files {
			if f == "" {
				return nil, t.errorf(i, "no file name")
			}
			if !filepath.IsAbs(f) {
				files[i] = filepath.Join(d.base(), f)
			}
			if _, err := os.Stat(files[i]); err != nil {
				return nil, t.errorf(i, "%v", err)
			}
		}
		s := &store{labels: labels}
		s.imageFiles(files)
		return s, nil
	}
	labels, err := t.numbered()
	if err != nil {
		return nil, err
	}
	return openSheets(d, labels)
}

// openSheets opens contact sheets: images cut into equal tiles, row by row,
// which carry the labels in order. The last sheet may be partly empty.
func openSheets(d *desc, labels []int) (*store, error) {
	files, err := d.dataFiles()
	if err != nil {
		return nil, err
	}
	tw, th := d.tile[0], d.tile[1]
	var first []int // number of each sheet's first tile
	tiles := 0
	perRow := make([]int, len(files))
	for i, f := range files {
		w, h, err := imageSize(f)
		if err != nil {
			return nil, err
		}
		if w%tw != 0 || h%th != 0 {
			return nil, d.errorf("tile", "%s of %d×%d pixels is not made of %d×%d tiles", f, w, h, tw, th)
		}
		if tiles >= len(labels) {
			return nil, d.errorf("labels", "has %d rows, the sheets before %s hold %d tiles already", len(labels), f, tiles)
		}
		first, perRow[i] = append(first, tiles), w/tw
		tiles += w / tw * (h / th)
	}
	if len(labels) > tiles {
		return nil, d.errorf("labels", "has %d rows, the sheets hold %d tiles", len(labels), tiles)
	}
	cache := &sheetCache{sheets: map[int]picture{}}
	s := &store{n: len(labels), labels: labels}
	at := func(i int) (sheet, tile int) {
		sheet = partOf(first, i)
		return sheet, i - first[sheet]
	}
	s.name = func(i int) string {
		sheet, tile := at(i)
		return fmt.Sprintf("%s tile %d", files[sheet], tile)
	}
	s.open = func() (func(int) (record, error), func(), error) {
		return func(i int) (record, error) {
			sheet, tile := at(i)
			m, err := cache.get(sheet, files[sheet])
			if err != nil {
				return record{}, err
			}
			x, y := tile%perRow[sheet]*tw, tile/perRow[sheet]*th
			r := image.Rect(x, y, x+tw, y+th)
			if !r.In(m.Bounds()) {
				return record{}, fmt.Errorf("%s: changed while it was read", files[sheet])
			}
			return record{image: picture{RGBA: m.SubImage(r).(*image.RGBA)}}, nil
		}, func() {}, nil
	}
	return s, nil
}

func imageSize(file string) (w, h int, err error) {
	f, err := regular.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	cfg, _, err := image.DecodeConfig(f)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: not a readable JPEG or PNG image: %w", file, err)
	}
	if cfg.Width < 1 || cfg.Height < 1 {
		return 0, 0, fmt.Errorf("%s: an empty image", file)
	}
	return cfg.Width, cfg.Height, nil
}

// sheetCache keeps decoded sheets, at most about 64 MB of them, since
// neighbouring tiles come from the same one.
type sheetCache struct {
	mu     sync.Mutex
	sheets map[int]picture
	bytes  int
}

func (c *sheetCache) get(sheet int, file string) (picture, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.sheets[sheet]; ok {
		return m, nil
	}
	m, err := decodeFile(file)
	if err != nil {
		return m, err
	}
	if c.bytes += len(m.Pix); c.bytes > 64<<20 {
		clear(c.sheets)
		c.bytes = len(m.Pix)
	}
	c.sheets[sheet] = m
	return m, nil
}
