// Files of pictures: out of base64, as addresses that an image can show, and as pixels.

const addresses = new WeakMap();

export function blobOf(base64, format) {
  return new Blob([Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0))], { type: `image/${format}` });
}

/** An address of a picture in this page, the same for the same blob until it is let go. */
export function addressOf(blob) {
  if (!addresses.has(blob)) addresses.set(blob, URL.createObjectURL(blob));
  return addresses.get(blob);
}

export function letGo(blob) {
  if (!addresses.has(blob)) return;
  URL.revokeObjectURL(addresses.get(blob));
  addresses.delete(blob);
}

/** The pixels of a picture, as a canvas has them. */
export async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
