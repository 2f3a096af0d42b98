"""Every kind of problem the HTTP interface reports: a stable code, a status and a title."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROBLEM_TYPES", "ProblemType"]


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem.

    Parameters
    ----------
    code : str
        Machine code; it never changes its meaning.
    status : int
        HTTP status it comes with.
    title : str
        The same short sentence for every occurrence.
    """

    code: str
    status: int
    title: str


PROBLEM_TYPES: dict[str, ProblemType] = {
    kind.code: kind
    for kind in (
        ProblemType("request.invalid", 422, "The request does not fit the interface."),
        ProblemType("request.malformed", 400, "The body cannot be read."),
        ProblemType("request.too_many_pixels", 422, "The images are larger than one job may be."),
        ProblemType("request.unsupported_media_type", 415, "The body is of a kind this address does not take."),
        ProblemType("request.too_large", 413, "The body is larger than this address takes."),
        ProblemType("request.host_refused", 421, "This service does not answer for that host name."),
        ProblemType("request.cross_site", 403, "A page of another site may not change anything here."),
        ProblemType("request.failed", 400, "The request was refused."),
        ProblemType("auth.required", 401, "A valid token is needed."),
        ProblemType("auth.forbidden", 403, "The token does not allow this."),
        ProblemType("auth.too_many_failures", 429, "Too many refused tokens came from this address."),
        ProblemType("auth.issuer_unavailable", 503, "The issuer of the token cannot be asked at present."),
        ProblemType("token.not_found", 404, "There is no such token."),
        ProblemType("token.too_many", 409, "The owner has as many tokens as one may have."),
        ProblemType("route.not_found", 404, "There is nothing at this address."),
        ProblemType("route.method_not_allowed", 405, "This address does not take that method."),
        ProblemType("range.not_satisfiable", 416, "The range lies outside the file."),
        ProblemType("precondition.failed", 412, "The thing has changed since."),
        ProblemType("night.not_found", 404, "There is no job of that night."),
        ProblemType("visit.not_found", 404, "There is no result of that visit."),
        ProblemType("exposure.not_found", 404, "There is no such exposure."),
        ProblemType("exposure.in_use", 409, "A job needs this exposure."),
        ProblemType("exposure.unreadable", 422, "The file cannot be read as an exposure."),
        ProblemType("format.not_fits", 422, "This is not a FITS file."),
        ProblemType("format.no_image", 422, "The file has no image with pixels."),
        ProblemType("format.bayer", 422, "The pixels are a colour mosaic."),
        ProblemType("format.wrong_dimensions", 422, "The pixels are not one image of one detector."),
        ProblemType("format.shape_mismatch", 422, "Image, mask and variance have different sizes."),
        ProblemType("format.not_numeric", 422, "The pixels are not numbers as FITS has them."),
        ProblemType("format.bad_mask_planes", 422, "The names of the mask's bits contradict each other."),
        ProblemType("format.bad_metadata", 422, "A metadata value cannot be."),
        ProblemType("format.corrupt", 422, "The file is damaged."),
        ProblemType("format.truncated", 422, "The file is cut short."),
        ProblemType("format.too_large", 422, "The file asks for more than the service takes."),
        ProblemType("format.decompression_limit", 422, "The file unpacks to more than the service takes."),
        ProblemType("instrument.not_found", 404, "There is no such preset of an instrument."),
        ProblemType("upload.empty", 400, "The upload has no bytes."),
        ProblemType("upload.incomplete", 400, "The upload ended early."),
        ProblemType("upload.not_fits", 415, "The upload is not a FITS file."),
        ProblemType("upload.too_large", 413, "The upload is larger than the service takes."),
        ProblemType("upload.digest_invalid", 400, "The Content-Digest or Repr-Digest header cannot be read."),
        ProblemType("upload.digest_mismatch", 400, "The bytes are not those of the digest that was announced."),
        ProblemType("upload.length_mismatch", 400, "The bytes are not as many as were announced."),
        ProblemType("upload.not_found", 404, "There is no such upload."),
        ProblemType("upload.too_many", 409, "The owner has as many unfinished uploads as one may have."),
        ProblemType("upload.busy", 409, "Another request is sending to this upload."),
        ProblemType("upload.offset_mismatch", 409, "The upload is at another offset."),
        ProblemType("upload.elsewhere", 409, "Another host of the service has the bytes of this upload."),
        ProblemType("upload.ended", 409, "The upload takes no more bytes."),
        ProblemType("source.refused", 422, "The service does not fetch from this address."),
        ProblemType("source.failed", 422, "The file could not be fetched."),
        ProblemType("source.pending", 503, "The file is still on its way."),
        ProblemType("storage.full", 507, "The service has no room left."),
        ProblemType("quota.exceeded", 507, "The owner's files take all the room that they may."),
        ProblemType("job.not_found", 404, "There is no such job."),
        ProblemType("batch.not_found", 404, "There is no such batch."),
        ProblemType("job.not_active", 409, "The job has already ended."),
        ProblemType("job.not_ready", 409, "The job has not made this yet."),
        ProblemType("job.already_started", 409, "The job has been started: this can be changed no longer."),
        ProblemType("job.gone", 410, "The job's products have been removed."),
        ProblemType("job.exposure_not_found", 422, "The job names an exposure that is not there."),
        ProblemType("job.refcat_not_found", 422, "The job names a reference catalogue that is not there."),
        ProblemType("job.config_invalid", 422, "The configuration cannot be used."),
        ProblemType("events.too_many_streams", 429, "The owner has as many event streams open as one may."),
        ProblemType("queue.full", 429, "Too many jobs are waiting."),
        ProblemType("idempotency.mismatch", 422, "This Idempotency-Key was used with another request."),
        ProblemType("idempotency.in_progress", 409, "A request with this Idempotency-Key is still at work."),
        ProblemType("product.unknown", 404, "There is no product of this name."),
        ProblemType("product.not_made", 404, "The job did not make this product."),
        ProblemType("catalog.unknown_column", 422, "The catalogue has no such column."),
        ProblemType("catalog.invalid_query", 422, "The rows cannot be chosen this way."),
        ProblemType("page.invalid_cursor", 422, "The page marker is not one of this list."),
        ProblemType("preview.failed", 422, "No preview can be drawn of this."),
        ProblemType("cutout.outside", 422, "The box has no pixel of the image."),
        ProblemType("image.no_wcs", 422, "Nothing is known of where this is on the sky."),
        ProblemType("image.no_plane", 422, "The image has no such plane."),
        ProblemType("image.too_large", 422, "The image is larger than this is done for."),
        ProblemType("image.no_tile", 404, "The image has no such tile."),
        ProblemType("compression.failed", 422, "The image cannot be compressed this way."),
        ProblemType("image.busy", 503, "Too many pictures are being made at present."),
        ProblemType("diagnostic.unknown", 404, "There is no diagnostic of this name."),
        ProblemType("photometry.timeout", 503, "The measurement took longer than it may."),
        ProblemType("refcat.not_found", 404, "There is no such reference catalogue."),
        ProblemType("refcat.exists", 409, "Another reference catalogue has this name."),
        ProblemType("refcat.declared", 409, "The operator has declared a remote catalogue of this name."),
        ProblemType("refcat.in_use", 409, "A job needs this reference catalogue."),
        ProblemType("refcat.invalid", 422, "The file cannot be read as a reference catalogue."),
        ProblemType("refcat.unavailable", 503, "The reference catalogue cannot be read at present."),
        ProblemType("webhook.message_not_found", 404, "There is no such message."),
        ProblemType("webhook.busy", 409, "The message is being sent at this moment."),
        ProblemType("service.unavailable", 503, "The service cannot work at present."),
        ProblemType("service.error", 500, "The service made a mistake."),
    )
}
